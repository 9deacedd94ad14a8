"""What POSIX shells read the same way: texts that are quoted, and which variables each shell keeps for itself.

Facts: tried with bash 5.2, dash 0.5, zsh 5.9, ksh93u+m 1.0 and mksh 59, each with its default options.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable

# Nothing that any shell expands. `=` is not among these: at the beginning of a word or value, zsh puts a command's path
# in the place of `=command`, and before a command, `A=b` is an assignment.
_PLAIN = re.compile(r"[\w@%+:,./-]+", re.ASCII)

_BASH = frozenset({
    "BASHOPTS", "BASHPID", "BASH_ALIASES", "BASH_ARGC", "BASH_ARGV", "BASH_ARGV0", "BASH_CMDS", "BASH_COMMAND",
    "BASH_COMPAT", "BASH_LINENO", "BASH_SOURCE", "BASH_SUBSHELL", "BASH_VERSINFO", "BASH_XTRACEFD", "DIRSTACK",
    "EPOCHREALTIME", "EPOCHSECONDS", "EUID", "FUNCNAME", "GROUPS", "HISTCMD", "LINENO", "OPTIND", "PPID", "RANDOM",
    "SECONDS", "SHELLOPTS", "SHLVL", "SRANDOM", "UID", "_",
})  # fmt: skip
_DASH = frozenset({"LINENO", "OPTIND", "PPID", "_"})
_KSH = frozenset({
    "COLUMNS", "BASHPID", "HISTCMD", "HISTSIZE", "JOBMAX", "KSHEGID", "KSHGID", "KSHUID", "KSH_VERSION", "LANG",
    "LC_ALL", "LC_CTYPE", "LINENO", "LINES", "MAILCHECK", "OPTIND", "PGRP", "PIPESTATUS", "PPID", "RANDOM", "SECONDS",
    "SHLVL", "TMOUT", "USER_ID", "_",
})  # fmt: skip
_ZSH = frozenset({
    "ARGC", "COLUMNS", "EGID", "EUID", "FUNCNEST", "GID", "HISTCHARS", "HISTCMD", "HISTSIZE", "KEYBOARD_HACK",
    "KEYTIMEOUT", "LINENO", "LINES", "LISTMAX", "MAILCHECK", "OPTIND", "PPID", "RANDOM", "SAVEHIST", "SECONDS", "SHLVL",
    "TRY_BLOCK_ERROR", "TRY_BLOCK_INTERRUPT", "TTYIDLE", "UID", "USERNAME", "WATCH", "ZSH_EVAL_CONTEXT", "ZSH_SUBSHELL",
    "_", "aliases", "argv", "builtins", "cdpath", "commands", "dirstack", "dis_aliases", "dis_builtins",
    "dis_functions", "dis_functions_source", "dis_galiases", "dis_patchars", "dis_reswords", "dis_saliases", "fignore",
    "fpath", "funcfiletrace", "funcsourcetrace", "funcstack", "functions", "functions_source", "functrace", "galiases",
    "histchars", "history", "historywords", "jobdirs", "jobstates", "jobtexts", "keymaps", "mailpath", "manpath",
    "module_path", "modules", "nameddirs", "options", "parameters", "patchars", "path", "pipestatus", "psvar",
    "reswords", "saliases", "signals", "status", "termcap", "terminfo", "userdirs", "usergroups", "watch", "widgets",
    "zsh_eval_context", "zsh_scheduled_events",
})  # fmt: skip
# `sh` may be bash or dash.
_OWN_VARIABLES = {
    "sh": _BASH, "bash": _BASH, "dash": _DASH, "ash": _DASH, "ksh": _KSH, "mksh": _KSH, "zsh": _ZSH,
}  # fmt: skip


def posix_shell(interpreter: str) -> str | None:
    """Return the name of the POSIX shell that runs a script, ``None`` for any other interpreter.

    :param interpreter: the script's first line behind ``#!``
    """
    words = interpreter.split()
    if words and posixpath.basename(words[0]) == "env":
        words = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
    name = posixpath.basename(words[0]) if words else ""
    return name if name in _OWN_VARIABLES else None


def is_own_variable(name: str, shell: str) -> bool:
    """Tell whether a shell sets a variable by itself, or takes only some values for it.

    :param name: the variable's name
    :param shell: as :func:`posix_shell` names it
    """
    return name in _OWN_VARIABLES[shell]


def quote(text: str) -> str:
    """Return a text as one word that every POSIX shell takes as it is."""
    if _PLAIN.fullmatch(text):
        return text
    quoted = "'" + text.replace("'", "'\"'\"'") + "'"
    # sbatch refuses a script with a carriage return before a line's end, and not every shell supports $'\r'.
    return quoted.replace("\r", "'\"$(printf '\\r')\"'")


def join(words: Iterable[str]) -> str:
    """Return words as a command line."""
    return " ".join(map(quote, words))

"""The command `firecrest-local`."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
import tomllib
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from firecrest_local.client_settings import SAVE_BLOCK, export_lines
from firecrest_local.examples import copy_examples
from firecrest_local.faults.plan import Plan, fault_kinds
from firecrest_local.server import LocalFirecREST
from firecrest_local.settings import SCHEDULERS, TOKEN_AUTH_METHODS, Settings

INSTRUCTIONS = f"""
Paste these lines into another terminal. Airflow then has the connection firecrest_default.
For Prefect, save them as a block with this line:

{SAVE_BLOCK}

Ctrl-C stops this server.
"""


def _fault_lines() -> list[str]:
    kinds = fault_kinds()
    width = max(map(len, kinds))
    return [f"  {name:{width}}  {summary}" for name, summary in kinds.items()]


def parser() -> argparse.ArgumentParser:
    """Define the command line."""
    defaults = Settings()
    arguments = argparse.ArgumentParser(
        prog="firecrest-local",
        description="An embedded FirecREST v2 server with a scheduler that runs jobs on this machine.\n"
        "It is for development and tests only: everybody who has its secret can run\n"
        "commands as you. When it is ready it prints what a client, Airflow and Prefect\n"
        "need, as lines to paste into a shell. They stay right when it is started again.\n"
        "Ctrl-C stops it and its running jobs. Jobs that Slurm runs continue.",
        epilog="\n".join(["faults that a rule of --faults can name:", *_fault_lines()]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    arguments.add_argument(
        "--root", type=Path, default=defaults.root, help="directory of the cluster (default: %(default)s)"
    )
    arguments.add_argument(
        "--port",
        type=int,
        help="port, 0 for any free one (default: the one that the last server of this root had, at first any free one)",
    )
    arguments.add_argument("--client-id", default=defaults.client_id, help="(default: %(default)s)")
    arguments.add_argument(
        "--client-secret-file",
        type=Path,
        metavar="FILE",
        help="file with the client's secret, since everybody on this machine can read a command line (default: the "
        "environment's FIRECREST_CLIENT_SECRET, else a random secret)",
    )
    arguments.add_argument(
        "--token-auth",
        choices=TOKEN_AUTH_METHODS,
        help="how the token endpoint takes the client's secret: in the form, or by HTTP Basic (default: both)",
    )
    arguments.add_argument(
        "--token-lifetime",
        type=float,
        default=defaults.token_lifetime,
        metavar="SECONDS",
        help="how long a token is valid; one that is valid for less than 30 s more is refused (default: %(default)g)",
    )
    arguments.add_argument(
        "--api-key-file",
        type=Path,
        metavar="FILE",
        help="file with API keys, one a line, that are taken in the header X-API-Key in the place of a token "
        "(default: none)",
    )
    arguments.add_argument("--system", default=defaults.system, help="name of the system (default: %(default)s)")
    arguments.add_argument(
        "--cores",
        type=int,
        default=defaults.cores,
        help="cores for jobs (default: the machine's %(default)s)",
    )
    arguments.add_argument("--gpus", type=int, default=defaults.gpus, help="GPUs for jobs (default: none)")
    arguments.add_argument(
        "--account",
        action="append",
        metavar="NAME",
        help="account of the user, once for each; the first one is the default, and jobs with any other are refused "
        f"(default: {', '.join(defaults.accounts)})",
    )
    arguments.add_argument(
        "--max-submit-jobs",
        type=int,
        metavar="N",
        help="how many jobs may wait or run at once, as Slurm's MaxSubmitJobs (default: no limit)",
    )
    arguments.add_argument(
        "--scheduler",
        choices=SCHEDULERS,
        default=defaults.scheduler,
        help="what runs the jobs: processes of this machine, its Slurm, or Slurm where sinfo answers "
        "(default: %(default)s)",
    )
    arguments.add_argument(
        "--faults",
        type=Path,
        metavar="FILE",
        help="inject the faults of this TOML file, and serve /faults to show and change them (default: no faults)",
    )
    arguments.add_argument(
        "--examples",
        type=Path,
        metavar="DIRECTORY",
        help="copy the example DAGs and flows into this directory, and serve nothing",
    )
    return arguments


def read_plan(path: Path) -> Plan:
    """Read a fault plan.

    :param path: a TOML file.
    :raises OSError: the file can't be read.
    :raises ValueError: the file is not a plan. The message names the places.
    """
    try:
        return Plan.model_validate(tomllib.loads(path.read_text()))
    except ValidationError as error:
        places = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        raise ValueError("; ".join(places)) from None


def read_secret(path: Path | None) -> str | None:
    """Take the client's secret from a file, or else out of the environment.

    Jobs, and everything else that this process starts, must not inherit it.

    :param path: the file.
    :returns: the secret without the end of its line, or None if there is none.
    :raises OSError: the file can't be read.
    :raises ValueError: the file is empty.
    """
    from_environment = os.environ.pop("FIRECREST_CLIENT_SECRET", None)
    if path is None:
        return from_environment or None
    secret = path.read_text().strip()
    if not secret:
        raise ValueError("it is empty")
    return secret


def show_examples(target: Path) -> int:
    """Copy the examples into a directory.

    :param target: the directory.
    :returns: the exit status.
    """
    try:
        for folder in copy_examples(target):
            print(folder)
    except OSError as error:
        print(f"firecrest-local: no examples in {target}: {error}", file=sys.stderr)
        return 1
    return 0


def read_keys(path: Path | None) -> tuple[str, ...]:
    """Read API keys from a file.

    :param path: the file, with one key a line; None for no keys.
    :raises OSError: the file can't be read.
    :raises ValueError: there is no key in it.
    """
    if path is None:
        return ()
    keys = tuple(path.read_text().split())
    if not keys:
        raise ValueError("it is empty")
    return keys


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM.

    :param argv: the arguments; None takes those of the process.
    :returns: the exit status.
    """
    arguments = parser()
    options, unknown = arguments.parse_known_args(argv)
    if unknown:  # argparse itself would repeat what follows them, for example a secret
        names = [word.partition("=")[0] for word in unknown if word.startswith("-")] or ["an argument without a name"]
        arguments.error(f"unrecognized: {', '.join(names)}")
    if options.examples is not None:
        return show_examples(options.examples)
    try:
        faults = None if options.faults is None else read_plan(options.faults)
    except (OSError, ValueError) as error:
        print(f"firecrest-local: no fault plan in {options.faults}: {error}", file=sys.stderr)
        return 1
    try:
        client_secret = read_secret(options.client_secret_file)
    except (OSError, ValueError) as error:
        print(f"firecrest-local: no secret in {options.client_secret_file}: {error}", file=sys.stderr)
        return 1
    try:
        api_keys = read_keys(options.api_key_file)
    except (OSError, ValueError) as error:
        print(f"firecrest-local: no API key in {options.api_key_file}: {error}", file=sys.stderr)
        return 1
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("firecrest_local").setLevel(logging.DEBUG)  # which logs each request
    try:
        settings = Settings(
            root=options.root,
            port=options.port,
            client_id=options.client_id,
            client_secret=client_secret,
            token_auth=options.token_auth,
            token_lifetime=options.token_lifetime,
            api_keys=api_keys,
            system=options.system,
            cores=options.cores,
            gpus=options.gpus,
            accounts=tuple(options.account or Settings.accounts),
            max_submit_jobs=options.max_submit_jobs,
            scheduler=options.scheduler,
            faults=faults,
        )
    except ValueError as error:
        print(f"firecrest-local: {error}", file=sys.stderr)
        return 1
    done = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: done.set())
    try:
        with LocalFirecREST(settings) as server:
            for line in export_lines(server.environ):
                print(line)
            sys.stdout.flush()
            print(INSTRUCTIONS, file=sys.stderr, flush=True)
            # A signal that another thread receives doesn't end this thread's wait, so the wait has a timeout.
            while not done.wait(0.2):
                pass
    except OSError as error:
        print(f"firecrest-local: cannot serve {settings.root}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

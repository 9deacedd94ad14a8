"use strict";
// Refreshes the parts of a page that change, as long as it is visible, and follows output at its end.

// Milliseconds.
const VISIBLE_AGAIN = 1000;
const INCOMPLETE_AGAIN = 500; // as long as the server has not read all jobs

// --- the theme: Airflow's own, which it keeps in the browser --------------------------------------

function applyTheme() {
  let theme = null;
  try {
    theme = localStorage.getItem("theme");
  } catch {
    // A browser without storage: the system's theme.
  }
  if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
}
applyTheme();
addEventListener("storage", applyTheme);

// --- times in the viewer's time zone: the one chosen in Airflow, or the browser's -----------------

function localTimes(root) {
  let timeZone;
  try {
    timeZone = localStorage.getItem("timezone")?.replaceAll('"', "") || undefined;
  } catch {
    timeZone = undefined;
  }
  for (const time of root.querySelectorAll("time")) {
    const at = new Date(time.dateTime);
    const today = at.toDateString() === new Date().toDateString();
    const form = { hour: "2-digit", minute: "2-digit", hourCycle: "h23", timeZone };
    if (!today) Object.assign(form, { year: "numeric", month: "2-digit", day: "2-digit" });
    try {
      time.textContent = new Intl.DateTimeFormat("sv-SE", form).format(at);
      time.title = new Intl.DateTimeFormat("sv-SE", { dateStyle: "short", timeStyle: "long", timeZone }).format(at);
    } catch {
      return; // an unknown time zone: UTC stays
    }
  }
}

// --- refreshing -------------------------------------------------------------------------------------

function replace(old, content) {
  const focused = old.contains(document.activeElement) ? document.activeElement : null;
  const href = focused?.getAttribute("href");
  const open = [...old.querySelectorAll("details")].map((one) => one.open);
  const away = new Map();
  for (const pre of old.querySelectorAll("[data-follow]")) {
    if (pre.scrollTop + pre.clientHeight < pre.scrollHeight - 4) away.set(pre.dataset.follow, pre.scrollTop);
  }
  old.replaceChildren(...content);
  localTimes(old);
  old.querySelectorAll("details").forEach((one, index) => (one.open = open[index] ?? false));
  for (const pre of old.querySelectorAll("[data-follow]")) {
    pre.scrollTop = away.get(pre.dataset.follow) ?? pre.scrollHeight;
  }
  if (href) [...old.querySelectorAll("a")].find((one) => one.getAttribute("href") === href)?.focus();
}

async function load(address) {
  const answer = await fetch(address, { redirect: "error" });
  if (answer.status === 401) throw new Error("Your session has ended: load the page again.");
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  if (!answer.ok) throw new Error(page.querySelector("main > p")?.textContent ?? `Airflow answered ${answer.status}.`);
  return page;
}

async function refresh(element) {
  const stale = document.getElementById("stale");
  try {
    if (element.dataset.src) {
      replace(element, (await load(element.dataset.src)).body.childNodes);
    } else {
      const page = await load(location.href);
      for (const part of element.querySelectorAll("[data-live]")) {
        const newer = page.getElementById(part.id);
        if (newer) replace(part, newer.childNodes);
      }
    }
    stale.hidden = true;
  } catch (error) {
    stale.textContent = `This page is not up to date. ${error.message}`;
    stale.hidden = false;
  }
}

async function keepFresh(element) {
  let last = element.dataset.src ? -Infinity : performance.now();
  for (;;) {
    const every = element.querySelector("[data-incomplete]") ? INCOMPLETE_AGAIN : 1000 * Number(element.dataset.every);
    const isSeen = document.visibilityState === "visible" && !element.closest("details:not([open])");
    if (isSeen && performance.now() - last >= every) {
      await refresh(element);
      last = performance.now();
    }
    await new Promise((resolve) => setTimeout(resolve, Math.min(every, VISIBLE_AGAIN)));
  }
}

// --- links out of the frame -------------------------------------------------------------------------

// Airflow's frame may not navigate the page around it, and opens no windows; a link of that page itself may.
function leaveFrame(event) {
  const link = event.target.closest?.('a[target="_top"]');
  if (!link || window.top === window) return;
  event.preventDefault();
  const outside = window.top.document.createElement("a");
  outside.href = link.href;
  if (event.ctrlKey || event.metaKey || event.button === 1) outside.target = "_blank";
  outside.click();
}
addEventListener("click", leaveFrame);
addEventListener("auxclick", leaveFrame);

addEventListener("DOMContentLoaded", () => {
  localTimes(document);
  document.querySelectorAll("[data-every]").forEach(keepFresh);
  document.querySelectorAll(".filters select").forEach((one) => one.addEventListener("change", () => one.form.submit()));
});

// Takes the panels anew every second. Without it the page is whole, of the moment when it was loaded.
"use strict";
const panels = document.getElementById("panels");
const age = document.getElementById("age");
const button = document.getElementById("pause");
let paused = false;

function say(text, old) {
  if (age.textContent !== text) age.textContent = text;
  age.classList.toggle("old", old);
}

async function refresh() {
  try {
    const answer = await fetch("/panels", { cache: "no-store", signal: AbortSignal.timeout(5000) });
    if (!answer.ok) throw new Error(String(answer.status));
    const html = await answer.text();
    if (paused) return;
    const focused = document.activeElement && panels.contains(document.activeElement);
    const scroll = panels.querySelector(".wide")?.scrollLeft ?? 0;
    panels.innerHTML = html;
    const wide = panels.querySelector(".wide");
    if (wide) {
      wide.scrollLeft = scroll;
      if (focused) wide.focus({ preventScroll: true });
    }
    say("live", false);
  } catch {
    say("the console's server does not answer; this is the last it said", true);
  }
}

async function turn() {
  if (!paused && !document.hidden) await refresh();
  setTimeout(turn, 1000);
}

button.addEventListener("click", () => {
  paused = !paused;
  button.setAttribute("aria-pressed", String(paused));
  button.textContent = paused ? "Go on" : "Pause";
  say(paused ? "paused" : "live", false);
});
setTimeout(turn, 1000);

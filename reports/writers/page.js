// What the page does beside its curves: switches between the stages of training, and pictures that open large.
"use strict";
document.documentElement.classList.add("scripted");

for (const section of document.querySelectorAll("[data-curves]")) Curves.start(section);

for (const group of document.querySelectorAll("[data-switch]")) {
  const buttons = [...group.children];
  const parts = [...document.querySelectorAll(`[data-group="${group.dataset.switch}"]`)];
  const show = (chosen) => buttons.forEach((button, i) => {
    button.setAttribute("aria-pressed", i === chosen);
    parts[i].hidden = i !== chosen;
  });
  buttons.forEach((button, i) => button.addEventListener("click", () => show(i)));
  show(buttons.length - 1);
}

const viewer = document.querySelector("dialog");
if (viewer) {
  const [row, caption] = [viewer.querySelector(".row"), viewer.querySelector("figcaption")];
  // A picture opens with the same method, prompt and noise at every stage of training, its own stage large.
  const open = (button) => {
    const { method, prompt, part } = button.dataset;
    const along = [...document.querySelectorAll("button[data-method]")].filter((other) =>
      other.dataset.method === method && other.dataset.prompt === prompt && other.dataset.part === part);
    const large = new Image();
    large.className = "large";
    large.src = button.firstElementChild.src;
    large.alt = button.firstElementChild.alt;
    const stages = along.map((other) => {
      const stage = document.createElement("button"), small = new Image(), words = document.createElement("span");
      small.src = other.firstElementChild.src;
      small.alt = other.firstElementChild.alt;
      words.textContent = other.dataset.stage;
      stage.append(small, words);
      stage.setAttribute("aria-pressed", other === button);
      stage.addEventListener("click", () => open(other));
      return stage;
    });
    row.replaceChildren(...stages);
    viewer.querySelector(".large")?.remove();
    viewer.querySelector("figure").prepend(large);
    caption.textContent = `${method}, “${prompt}”, ${button.dataset.stage} of the budget`;
    if (!viewer.open) viewer.showModal();
    row.querySelector("[aria-pressed=true]")?.focus();
  };
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-method]");
    if (button) open(button);
    if (event.target === viewer) viewer.close();
  });
  viewer.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const stages = [...row.children], now = stages.findIndex((stage) => stage.getAttribute("aria-pressed") === "true");
    stages[now + step]?.click();
  });
}

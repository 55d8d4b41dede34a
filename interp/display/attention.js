// What pointing and clicking do in a display of attention. It holds no data: weights are read from
// the pictures' opacity, tokens from attributes.
(() => {
  // Of all on the page: a notebook may run this before or after others of its kind.
  for (const root of document.querySelectorAll(".interp-attention:not([data-ready])")) {
    root.dataset.ready = "yes";
    const queries = JSON.parse(root.dataset.queries);
    const keys = JSON.parse(root.dataset.keys);
    const large = root.querySelector("svg image");
    const [row, column] = root.querySelectorAll("svg .at");
    const title = root.querySelector(".head");
    const told = root.querySelector("output");
    const hint = "Point at a cell for its weight; click a head to enlarge it.";
    const levels = new Map();
    let chosen = root.querySelector("button[aria-pressed=true]");

    const levelsOf = (button) => {
      if (!levels.has(button)) {
        const canvas = document.createElement("canvas");
        canvas.width = keys.length;
        canvas.height = queries.length;
        const context = canvas.getContext("2d", { willReadFrequently: true });
        context.drawImage(button.querySelector("img"), 0, 0);
        levels.set(button, context.getImageData(0, 0, keys.length, queries.length).data);
      }
      return levels.get(button);
    };

    const point = (event, picture, button) => {
      const box = picture.getBoundingClientRect();
      const within = (share, n) => Math.max(0, Math.min(n - 1, Math.floor(share * n)));
      const key = within((event.clientX - box.left) / box.width, keys.length);
      const query = within((event.clientY - box.top) / box.height, queries.length);
      const weight = levelsOf(button)[4 * (query * keys.length + key) + 3] / 255;
      told.textContent =
        `${button.title}: from ${queries[query]} (${query}) to ${keys[key]} (${key}): ` +
        weight.toFixed(2);
      const cell = Number(root.dataset.cell);
      row.setAttribute("y", Number(large.getAttribute("y")) + query * cell);
      column.setAttribute("x", Number(large.getAttribute("x")) + key * cell);
      for (const band of [row, column]) band.setAttribute("visibility", "visible");
    };

    const leave = () => {
      told.textContent = hint;
      for (const band of [row, column]) band.setAttribute("visibility", "hidden");
    };

    const enlarge = (button) => {
      chosen.setAttribute("aria-pressed", "false");
      chosen = button;
      chosen.setAttribute("aria-pressed", "true");
      large.setAttribute("href", button.querySelector("img").src);
      title.textContent = button.title;
    };

    for (const button of root.querySelectorAll("button")) {
      const picture = button.querySelector("img");
      button.addEventListener("click", () => enlarge(button));
      picture.addEventListener("mousemove", (event) => point(event, picture, button));
      picture.addEventListener("mouseleave", leave);
    }
    const area = root.querySelector("svg .cells");
    area.addEventListener("mousemove", (event) => point(event, area, chosen));
    area.addEventListener("mouseleave", leave);
    leave();
  }
})();

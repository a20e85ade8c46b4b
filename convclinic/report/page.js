"use strict";
// Draws every figure from the JSON beside it, in the colours of the page, and again when those change.
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  // with a finger, dragging scrolls the page and there is no bar of buttons
  const mouse = matchMedia("(hover: hover)").matches;
  const config = {
    responsive: true,
    displaylogo: false,
    displayModeBar: mouse ? "hover" : false,
    modeBarButtons: [["zoom2d", "pan2d", "resetScale2d", "toImage"]],
  };

  // a colour "--name" is a variable of the style sheet; other texts, class names among them, stay as they are
  const resolve = (value, css, isColour) => {
    if (Array.isArray(value)) return value.map((item) => resolve(item, css, isColour));
    if (value && typeof value === "object")
      return Object.fromEntries(
        Object.entries(value).map(([key, item]) => [key, resolve(item, css, key.toLowerCase().endsWith("color") || key === "colorscale")]),
      );
    return isColour && typeof value === "string" && value.startsWith("--") ? css.getPropertyValue(value).trim() : value;
  };

  const draw = (width) => {
    const css = getComputedStyle(document.documentElement);
    for (const canvas of document.querySelectorAll(".plot")) {
      const figure = resolve(JSON.parse(document.getElementById(`${canvas.id}-data`).textContent), css, false);
      figure.layout.font.family = css.fontFamily;
      figure.layout.dragmode = mouse ? "zoom" : false;
      if (width) figure.layout.width = Math.min(width, canvas.clientWidth || width);
      Plotly.react(canvas, figure.data, figure.layout, config);
    }
  };

  const forPrint = (on) => () => {
    document.documentElement.toggleAttribute("data-print", on);
    draw(on ? 620 : undefined);
  };

  draw();
  dark.addEventListener("change", () => draw());
  addEventListener("beforeprint", forPrint(true));
  addEventListener("afterprint", forPrint(false));
})();

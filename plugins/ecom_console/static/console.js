// Draws the page's figures in the page's colours, again when the theme or the width changes.
"use strict";
(() => {
  const NAMES = ["accent", "accent-soft", "accent-softer", "warm", "soft", "faint", "good", "bad",
    "text"];
  function coloured(value, colours) {
    if (Array.isArray(value)) return value.map((each) => coloured(each, colours));
    if (value && typeof value === "object") {
      const made = {};
      for (const [name, each] of Object.entries(value))
        made[name] = /color$/.test(name) && colours[each] ? colours[each] : coloured(each, colours);
      return made;
    }
    return value;
  }
  function axis(given, colours, narrow) {
    return { gridcolor: colours.line, zerolinecolor: colours.faint, automargin: true,
      linecolor: colours.line, fixedrange: true, nticks: narrow ? 5 : undefined, ...given,
      title: { font: { size: 12 }, standoff: 8, ...given?.title } };
  }
  function draw() {
    const style = getComputedStyle(document.documentElement);
    const colours = { line: style.getPropertyValue("--line").trim() };
    for (const name of NAMES) colours[name] = style.getPropertyValue("--" + name).trim();
    for (const place of document.querySelectorAll(".plot")) {
      const { data, layout } = JSON.parse(document.getElementById(place.dataset.from).textContent);
      const narrow = place.clientWidth < 480;
      Plotly.react(place, coloured(data, colours), {
        paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
        font: { color: colours.text, size: 12, family: style.fontFamily || "system-ui" },
        margin: { l: 44, r: narrow ? 8 : 16, t: 10, b: 40 }, hovermode: "x unified",
        hoverlabel: { bgcolor: style.getPropertyValue("--panel").trim(),
          bordercolor: colours.faint, font: { color: colours.text } },
        legend: { orientation: "h", traceorder: "normal", y: 1.02, yanchor: "bottom", x: 0, font: { size: 12 } },
        ...coloured(layout, colours),
        xaxis: axis(coloured(layout.xaxis ?? {}, colours), colours, narrow),
        yaxis: axis(coloured(layout.yaxis ?? {}, colours), colours, narrow),
        ...(layout.yaxis2 ? { yaxis2: axis(coloured(layout.yaxis2, colours), colours, narrow) } : {}),
      }, { displayModeBar: false, responsive: true });
      place.dataset.drawn = "yes";
    }
  }
  if (document.querySelector(".plot")) {
    draw();
    document.addEventListener("themed", draw);
  }
})();

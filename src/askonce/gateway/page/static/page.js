// Charts, and what is live: parts of the page are asked for when the server says that they changed, or every five
// seconds while it says nothing (a proxy that holds events back, a server that is away).
(() => {
  "use strict";
  const plots = new Map();
  const colour = (box) => getComputedStyle(box).color;
  const two = (number) => String(number).padStart(2, "0");
  const clock = (at) => { const d = new Date(at * 1000); return `${two(d.getUTCHours())}:${two(d.getUTCMinutes())}`; };

  function draw(box) {
    const told = JSON.parse(box.dataset.chart);
    const old = plots.get(box);
    if (old && old.told === box.dataset.chart && old.ink === colour(box)) return;
    if (old) old.plot.destroy();
    const ink = colour(box), soft = colour(box.nextElementSibling), line = getComputedStyle(box.closest(".card")).borderTopColor;
    const axis = { stroke: soft, font: "12px " + getComputedStyle(document.body).fontFamily, grid: { stroke: line, width: 1 }, ticks: { show: false } };
    const percent = (v) => (v == null ? "–" : `${Math.round(v * 100)} %`);
    const plot = new uPlot({
      width: box.clientWidth, height: box.clientHeight, legend: { show: false }, tzDate: (at) => uPlot.tzDate(new Date(at * 1e3), "UTC"),
      cursor: { drag: { x: false, y: false }, y: false, points: { size: 7 } },
      scales: { y: { range: [0, 1] } },
      axes: [{ ...axis, grid: { show: false }, size: 28, space: 56, values: (_, at) => at.map(clock) },
             { ...axis, size: 48, splits: () => [0, 0.25, 0.5, 0.75, 1], values: (_, all) => all.map(percent) }],
      series: [{}, { stroke: ink, width: 2, fill: ink.replace("rgb(", "rgba(").replace(")", ",.1)"), spanGaps: true,
                     points: { show: told.at.length < 30, size: 5 } }],
      hooks: { setCursor: [(u) => read(box, told, u.cursor.idx, percent)] },
    }, [told.at, told.ratio], box);
    plots.set(box, { plot, told: box.dataset.chart, ink });
  }

  function read(box, told, at, percent) {
    const out = box.parentElement.querySelector("figcaption");
    out.dataset.said ??= out.textContent;
    out.textContent = at == null ? out.dataset.said
      : `${clock(told.at[at])} UTC: ${percent(told.ratio[at])} of ${told.lookups[at].toLocaleString("en")} lookups`;
  }

  const sizes = new ResizeObserver((all) => {
    for (const { target } of all) {
      const old = plots.get(target);
      if (old && target.clientWidth) old.plot.setSize({ width: target.clientWidth, height: target.clientHeight });
    }
  });

  function charts() {
    for (const [box, { plot }] of plots) if (!box.isConnected) { plot.destroy(); plots.delete(box); }
    for (const box of document.querySelectorAll("[data-chart]")) { draw(box); sizes.observe(box); }
  }

  const EVERY = 5000, asks = ["connect", "figures", "flights", "lists"];
  let heard = 0;
  const state = document.getElementById("state");
  const say = (live) => {
    const text = live ? "live" : `updated every ${EVERY / 1000} s`;
    if (state.textContent !== text) state.textContent = text;
    state.classList.toggle("live", live);
  };
  const hear = () => { heard = Date.now(); say(true); };

  document.addEventListener("htmx:sse:before:message", hear);
  document.addEventListener("htmx:after:swap", charts);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", charts);
  setInterval(() => {
    if (document.hidden || Date.now() - heard < 2 * EVERY) return;
    say(false);
    for (const name of asks) htmx.trigger(document.body, name);
  }, EVERY);
  charts();
})();

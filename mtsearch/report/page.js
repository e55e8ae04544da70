// Draws the page's figures when they come into view, colours the front, and shows the trial that is clicked.
(async () => {
  if (!window.Plotly) {
    const note = document.createElement("p");
    note.className = "trouble-note";
    note.textContent = "The figures are missing: plotly.js could not be loaded. `mtsearch plot` without --plotlyjs cdn writes a page that needs no network.";
    document.querySelector("header").after(note);
    return;
  }
  // From gzip in base64.
  const unpacked = async (script) => {
    const bytes = Uint8Array.from(atob(script.textContent), (char) => char.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return JSON.parse(await new Response(stream).text());
  };
  const data = await unpacked(document.getElementById("data"));
  const touch = window.matchMedia("(pointer: coarse)").matches;
  const config = {
    responsive: true,
    displaylogo: false,
    // Its "Share chart..." would upload the study to somebody's server.
    showSendToCloud: false,
    plotlyServerURL: "",
    modeBarButtonsToRemove: ["select2d", "lasso2d"],
  };
  const byId = (id) => document.getElementById(id);
  // Plotly reads a part of HTML wherever it shows text.
  const escaped = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const short = (value) => String(Number(value.toPrecision(4)));
  const listing = (words) => words.slice(0, -1).join(", ") + (words.length > 1 ? " and " : "") + words.slice(-1);

  const drawn = new Set();
  const draw = async (place) => {
    if (drawn.has(place)) return;
    drawn.add(place);
    const plot = place.querySelector(".plot");
    const figure = await unpacked(place.querySelector("script"));
    // A finger scrolls the page; dragging a zoom box would hold it.
    if (touch) figure.layout.dragmode = false;
    await Plotly.newPlot(plot, figure.data, figure.layout, config);
    plot.on("plotly_click", (event) => show(event.points[0].customdata));
  };
  const places = [...document.querySelectorAll(".figure")];
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      seen.unobserve(entry.target);
      draw(entry.target);
    }
  }, { rootMargin: "300px" });

  // The trial that was clicked.
  const show = (trial) => {
    const at = data.trials.indexOf(trial);
    const panel = byId("trial");
    if (at < 0 || !panel) return;
    panel.hidden = false;
    panel.dataset.trial = trial;
    const values = data.objectives.map((metric, index) => metric.label + " " + short(data.values[index][at]));
    const special = values.length > 1 ? ", knee" : ", best";
    byId("trial-name").textContent = "trial " + trial + (trial === data.knee ? special : "") + ": " + listing(values);
    byId("trial-params").textContent = data.params.filter((each) => each.values[at] !== null)
      .map((each) => each.name + " " + each.values[at]).join(" · ");
    byId("trial-command").textContent = data.command[0] + " --pick trial:" + trial + " " + data.command[1];
    byId("copy").textContent = "Copy";
    showCurves(data.curves[trial]);
  };
  const showCurves = (curve) => {
    const place = byId("trial-curves");
    const model = document.querySelector("#front .plot").layout;
    // All places first: the width of the first depends on whether there is a second.
    const plots = curve ? data.objectives.map(() => document.createElement("div")) : [];
    plots.forEach((plot) => { plot.className = "plot"; });
    place.replaceChildren(...plots);
    plots.forEach((plot, index) => {
      const metric = data.objectives[index];
      const axis = (title) => ({ title: { text: title, standoff: 8, font: { size: 12 } }, gridcolor: model.xaxis.gridcolor,
                                 linecolor: model.xaxis.linecolor, zeroline: false, automargin: true });
      const trace = { x: curve[0], y: curve[1 + index], mode: "lines+markers", line: { color: "#D55E00" },
                      hovertemplate: "epoch %{x}: %{y:.4g}<extra></extra>" };
      Plotly.newPlot(plot, [trace], {
        font: model.font, paper_bgcolor: model.paper_bgcolor, plot_bgcolor: model.plot_bgcolor,
        hoverlabel: model.hoverlabel, modebar: model.modebar, showlegend: false, dragmode: touch ? false : "zoom",
        xaxis: { ...axis("epoch"), tickformat: "d" }, yaxis: axis(escaped(metric.title)),
        margin: { l: 60, r: 12, t: 24, b: 48 },
      }, config);
    });
  };
  const copy = async () => {
    const code = byId("trial-command");
    try {
      await navigator.clipboard.writeText(code.textContent);
    } catch {
      // Browsers that keep the clipboard from local files.
      getSelection().selectAllChildren(code);
      if (!document.execCommand("copy")) return;
    }
    byId("copy").textContent = "Copied";
  };

  // The front, coloured by a parameter: whole numbers of a choice, or a scale with its ends and its middle named.
  const scale = (chosen) => {
    const logged = (value) => (chosen.log ? Math.log10(value) : value);
    const back = (value) => (chosen.log ? 10 ** value : value);
    const known = chosen.values.filter((value) => value !== null);
    const ends = [Math.min(...known), Math.max(...known)].map(logged);
    const ticks = chosen.choices.length
      ? chosen.choices.map((_, index) => index)
      : [0, 0.25, 0.5, 0.75, 1].map((share) => ends[0] + share * (ends[1] - ends[0]));
    const words = chosen.choices.length ? chosen.choices : ticks.map((tick) => short(back(tick)));
    return { of: logged, ends: chosen.choices.length ? [0, chosen.choices.length - 1] : ends, ticks,
             words: words.map((word) => escaped(word.length > 12 ? word.slice(0, 11) + "…" : word)) };
  };
  let plainFront = null;
  const colour = (plot, chosen) => {
    // In every panel, where there are several. A line has no trials of its own.
    const isFront = (trace) => ["front", "best so far"].includes(trace.name);
    const traces = plot.data.map((trace, index) => [trace, index]).filter(([trace]) => (trace.name === "trials" || isFront(trace)) && trace.customdata);
    const scaled = traces.findIndex(([trace]) => isFront(trace));
    plainFront = plainFront || traces.map(([trace]) => JSON.parse(JSON.stringify(trace.marker)));
    const indices = traces.map(([, index]) => index);
    if (!chosen) {
      Plotly.update(plot, { marker: plainFront }, { "margin.t": 48 }, indices);
      return;
    }
    const { of, ends, ticks, words } = scale(chosen);
    const markers = traces.map(([trace], place) => {
      const values = trace.customdata.map((trial) => chosen.values[data.trials.indexOf(trial)]);
      return {
        symbol: "circle", size: isFront(trace) ? 12 : 8, opacity: 1,
        color: values.map((value) => (value === null ? null : of(value))),
        cmin: ends[0], cmax: ends[1], colorscale: "Viridis",
        line: { width: isFront(trace) ? 2 : 0.5, color: isFront(trace) ? "#0072B2" : "#808890" },
        showscale: place === scaled,
        // Below the buttons, which a touch screen always shows.
        colorbar: { orientation: "h", yref: "container", y: 1, yanchor: "top", ypad: touch ? 32 : 4, x: 0.5, len: 0.9,
                    thickness: 10, outlinewidth: 0, title: { text: escaped(chosen.name), side: "bottom" },
                    tickvals: ticks, ticktext: words },
      };
    });
    Plotly.update(plot, { marker: markers }, { "margin.t": touch ? 138 : 110 }, indices);
  };

  addEventListener("beforeprint", () => places.forEach(draw));
  byId("colour")?.addEventListener("change", (event) => {
    const chosen = event.target.value === "" ? null : data.colours[Number(event.target.value)];
    colour(document.querySelector("#front .plot"), chosen);
  });
  byId("copy")?.addEventListener("click", copy);
  const first = places.filter((place) => place.closest("#front"));
  places.filter((place) => !first.includes(place)).forEach((place) => seen.observe(place));
  await Promise.all(first.map(draw));
  if (data.knee !== null) show(data.knee);
})();

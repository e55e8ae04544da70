// Draws every figure of the page from the JSON beside it.
(() => {
  const touch = window.matchMedia("(pointer: coarse)").matches;
  const config = {
    responsive: true,
    displaylogo: false,
    // Its "Share chart..." would upload the study to somebody's server.
    showSendToCloud: false,
    plotlyServerURL: "",
    modeBarButtonsToRemove: ["select2d", "lasso2d"],
  };
  for (const place of document.querySelectorAll(".figure")) {
    const figure = JSON.parse(place.querySelector("script").textContent);
    // A finger scrolls the page; dragging a zoom box would hold it.
    if (touch) figure.layout.dragmode = false;
    Plotly.newPlot(place.querySelector(".plot"), figure.data, figure.layout, config);
  }
})();

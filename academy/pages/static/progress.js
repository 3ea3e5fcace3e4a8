// Keeps a progress bar current: asks once a second while jobs run, then shows the page with their results.
for (const box of document.querySelectorAll("[data-progress]")) {
  const bar = box.querySelector("progress");
  const text = box.querySelector("[data-progress-text]");
  let shown = text.textContent;
  const ask = async () => {
    try {
      const reply = await fetch(box.dataset.progress, { headers: { Accept: "application/json" } });
      if (reply.status === 401) return location.reload();
      if (reply.ok) {
        const now = await reply.json();
        bar.max = Math.max(now.max, 1);
        bar.value = now.value;
        if (now.text !== shown) text.textContent = shown = now.text;
        if (now.finished) return location.replace(location.pathname);
      }
    } catch {
      // the network is away for a moment: ask again
    }
    setTimeout(ask, 1000);
  };
  setTimeout(ask, 1000);
}

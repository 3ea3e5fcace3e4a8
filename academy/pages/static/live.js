// Keeps a part of a page current: asks while something is under way, and when the reader comes back to the page.
for (const box of document.querySelectorAll("[data-live]")) {
  const parts = (root) => new Map([...root.querySelectorAll("[data-part]")].map((part) => [part.dataset.part, part]));
  const texts = (found) => new Map([...found].map(([key, part]) => [key, part.outerHTML]));
  let shown = texts(parts(box)); // as the server gave it: a reader may have opened something since
  let wait = Number(box.dataset.wait);
  let timer = 0;
  let asking = false;

  // A button that was in focus is in focus again when its row was drawn anew.
  const keepingFocus = (change) => {
    const held = box.contains(document.activeElement) ? document.activeElement : null;
    const same = held ? [...held.attributes].filter(({ name }) => ["form", "value", "href", "id"].includes(name)) : [];
    change();
    if (!held || held.isConnected || !same.length) return;
    const wanted = same.map(({ name, value }) => `[${name}="${CSS.escape(value)}"]`).join("");
    box.querySelector(held.localName + wanted)?.focus({ preventScroll: true });
  };

  const show = (html) => {
    const fresh = document.createElement("template");
    fresh.innerHTML = html;
    const [before, after] = [parts(box), parts(fresh.content)];
    const now = texts(after);
    keepingFocus(() => {
      if (before.size !== after.size || [...after.keys()].some((key) => !before.has(key))) {
        box.replaceChildren(fresh.content);
      } else {
        for (const [key, part] of after) {
          const old = before.get(key);
          if (shown.get(key) === now.get(key)) continue;
          if (part.localName === "progress") Object.assign(old, { max: part.max, value: part.value });
          else old.replaceWith(part);
        }
      }
    });
    shown = now;
  };

  const ask = async () => {
    clearTimeout(timer);
    if (asking || document.hidden) return;
    asking = true;
    try {
      const reply = await fetch(box.dataset.live, { headers: { Accept: "application/json" } });
      if (reply.status === 401) return location.reload();
      if (reply.ok) {
        const now = await reply.json();
        wait = now.wait;
        show(now.html);
      }
    } catch {
      // the network is away for a moment: ask again
    }
    asking = false;
    if (wait) timer = setTimeout(ask, wait);
  };

  document.addEventListener("visibilitychange", ask);
  addEventListener("focus", ask);
  if (wait) timer = setTimeout(ask, wait);
}

// A JupyterLab extension without a build step: the federated module that JupyterLab asks for, written by hand.
(() => {
  const EVERY = 30000; // milliseconds between two looks
  const settings = JSON.parse(document.getElementById("jupyter-config-data")?.textContent || "{}");
  const server = settings.hubServerName || "";

  const activate = (app) => {
    const box = document.createElement("a");
    box.className = "jp-StatusBar-Item academy-gpu";
    box.target = "_blank";
    box.rel = "noopener";
    box.href = "/services/academy/gpus";
    box.style.cssText = "padding: 0 8px; line-height: 24px; color: inherit; text-decoration: none; white-space: nowrap;";
    box.hidden = true;
    const place = () => {
      if (!box.isConnected) document.querySelector("#jp-main-statusbar .jp-StatusBar-Right, #jp-main-statusbar")?.prepend(box);
    };

    const tell = (message, actions) =>
      app.commands
        .execute("apputils:notify", { message, type: "warning", options: { autoClose: false, actions } })
        .catch(() => window.alert(message));
    // The academy takes no orders from scripts, whose origin notebooks share: its own page has the button.
    app.commands.addCommand("academy-gpu:keep", {
      label: "Keep the GPU",
      execute: () => window.open("/services/academy/gpus", "_blank", "noopener"),
    });

    const warned = new Set();
    const warn = (one) => {
      const minutes = Math.floor((new Date(one.ends_at) - Date.now()) / 60000);
      const stage = `${one.warning} ${minutes < 6 ? "last" : "first"}`; // 15 and 5 minutes before
      if (warned.has(stage)) return;
      warned.add(stage);
      app.commands.execute("docmanager:save-all").catch(() => {});
      const keep = { label: one.keep, commandId: "academy-gpu:keep" };
      tell(one.warning, one.keep ? [keep] : []);
    };
    const warnOfVoucher = (one) => {
      if (warned.has(one.low)) return; // a fifth is left, then a twentieth
      warned.add(one.low);
      tell(one.voucher_warning, []);
    };

    let timer;
    const look = async () => {
      clearTimeout(timer);
      try {
        const reply = await fetch("/services/academy/gpus/mine.json", { headers: { Accept: "application/json" } });
        const one = reply.ok ? (await reply.json()).find((found) => found.server === server) : undefined;
        box.hidden = !one;
        if (one) {
          const parts = [one.model];
          if (one.utilisation !== null) parts.push(`${one.utilisation}%`);
          if (one.memory_gb !== null) parts.push(`${one.memory_gb} GB`);
          parts.push(one.ends);
          if (one.voucher) parts.push(one.voucher);
          box.textContent = parts.join(" · ");
          box.title = one.warning || one.page;
          box.style.background = one.warning ? "var(--jp-warn-color1, #f57c00)" : "";
          place();
          if (one.warning) warn(one);
          if (one.voucher_warning) warnOfVoucher(one);
        }
      } catch {
        // the network is away for a moment
      }
      timer = setTimeout(look, EVERY);
    };
    app.restored.then(look);
    window.addEventListener("focus", look);
  };

  window._JUPYTERLAB = window._JUPYTERLAB || {};
  window._JUPYTERLAB["academy-gpu"] = {
    init: () => {},
    get: async () => () => ({ __esModule: true, default: { id: "academy-gpu:status", autoStart: true, activate } }),
  };
})();

// Shows the home page again when a server that was starting or stopping has done so.
const section = document.querySelector("[data-states]");
if (section) {
  const before = JSON.parse(section.dataset.states);
  const timer = setInterval(async () => {
    try {
      const reply = await fetch(section.dataset.address, { headers: { Accept: "application/json" } });
      if (reply.status === 401 || reply.status === 403) return clearInterval(timer); // signed out
      if (!reply.ok) return; // the service starts again: ask again
      const now = await reply.json();
      const names = Object.keys({ ...before, ...now });
      if (names.some((name) => before[name] !== now[name])) location.replace(location.pathname);
    } catch {
      // the network is away for a moment: ask again
    }
  }, 1500);
}

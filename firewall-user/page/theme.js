// Chosen before anything is drawn: light, dark, or what the system says.
(function () {
  const themes = ["system", "light", "dark"];
  const read = () => {
    try {
      const kept = localStorage.getItem("theme");
      return themes.includes(kept) ? kept : "system";
    } catch {
      return "system";
    }
  };
  const show = (theme) => {
    if (theme === "system") {
      delete document.documentElement.dataset.theme;
    } else {
      document.documentElement.dataset.theme = theme;
    }
    const button = document.getElementById("theme");
    if (button) {
      button.textContent = `Theme: ${theme}`;
    }
    document.dispatchEvent(new Event("theme"));
  };
  show(read());
  document.addEventListener("DOMContentLoaded", () => {
    show(read());
    document.getElementById("theme").addEventListener("click", () => {
      const next = themes[(themes.indexOf(read()) + 1) % themes.length];
      try {
        localStorage.setItem("theme", next);
      } catch {
        // A browser that keeps nothing shows it all the same.
      }
      show(next);
    });
  });
})();

// Airflow marks its own document as dark or light; where it cannot be seen, the system decides.
"use strict";
(() => {
  const system = matchMedia("(prefers-color-scheme: dark)");
  function adapt() {
    let dark = system.matches;
    try {
      const marks = window.parent.document.documentElement.classList;
      if (window.parent !== window && (marks.contains("dark") || marks.contains("light")))
        dark = marks.contains("dark");
    } catch { /* shown by another host: not ours to read */ }
    const changed = document.documentElement.classList.contains("dark") !== dark;
    document.documentElement.classList.toggle("dark", dark);
    if (changed) document.dispatchEvent(new Event("themed"));
  }
  adapt();
  system.addEventListener("change", adapt);
  try {
    if (window.parent !== window)
      new MutationObserver(adapt).observe(window.parent.document.documentElement,
        { attributes: true, attributeFilter: ["class"] });
  } catch { /* as above */ }
})();

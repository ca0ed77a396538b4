/* A button that copies a field's text. Without this script the button isn't there and the text is selected by hand. */
"use strict";

for (const button of document.querySelectorAll("[data-copy]")) {
  const field = document.getElementById(button.dataset.copy);
  const said = button.parentElement.querySelector("[role=status]");
  button.hidden = false;
  button.addEventListener("click", async () => {
    field.select();
    try {
      await navigator.clipboard.writeText(field.value);
      said.textContent = said.dataset.copied;
    } catch {
      /* No permission, or not on https: it is selected, so a key will do. */
      said.textContent = said.dataset.select;
    }
  });
}

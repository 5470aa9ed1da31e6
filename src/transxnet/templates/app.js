// Files that would be refused get a sentence before they are sent: of those that are too large Gradio says only "Error".
const refusal = file => {
  const most = Number(document.querySelector("#refused [data-most]").dataset.most);
  if (file.size > most) {
    return `${file.name} can't be used: it has ${(file.size / 1e6).toFixed(1)} MB, more than ${most / 1e6} MB.`;
  }
  return file.type && !file.type.startsWith("image/") ? `${file.name} can't be used: it is not a picture.` : "";
};
const look = files => event => {
  if (!event.target.closest?.("#upload") || !files(event)?.length) return;
  const text = refusal(files(event)[0]);
  const said = document.querySelector("#refused [data-most]");
  said.textContent = text;
  said.hidden = !text;
  if (!text) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  event.target.closest("#upload").querySelectorAll("input[type=file]").forEach(input => { input.value = ""; });
};
document.addEventListener("change", look(event => event.target.files), true);
document.addEventListener("drop", look(event => event.dataTransfer?.files), true);

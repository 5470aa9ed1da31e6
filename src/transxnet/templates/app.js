// Check files before the upload: for files over the limit, Gradio shows only "Error".
const rejectionOf = file => {
  const maxBytes = Number(document.querySelector("#rejected [data-max-bytes]").dataset.maxBytes);
  if (file.size > maxBytes) {
    return `Cannot use ${file.name}: ${(file.size / 1e6).toFixed(1)} MB is over the limit of ${maxBytes / 1e6} MB.`;
  }
  return file.type && !file.type.startsWith("image/") ? `Cannot use ${file.name}: not an image, or an unsupported format.` : "";
};
// One error at a time: a rejected file hides the error of the previous image, and the next image hides the rejection.
const showRejection = text => {
  const message = document.querySelector("#rejected [data-max-bytes]");
  message.textContent = text;
  message.hidden = !text;
  document.body.classList.toggle("rejected", Boolean(text));
};
const checkFiles = filesOf => event => {
  if (!event.target.closest?.("#upload") || !filesOf(event)?.length) return;
  const text = rejectionOf(filesOf(event)[0]);
  showRejection(text);
  if (!text) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  event.target.closest("#upload").querySelectorAll("input[type=file]").forEach(input => { input.value = ""; });
};
document.addEventListener("click", event => { if (event.target.closest?.("#examples")) showRejection(""); }, true);
document.addEventListener("change", checkFiles(event => event.target.files), true);
document.addEventListener("drop", checkFiles(event => event.dataTransfer?.files), true);

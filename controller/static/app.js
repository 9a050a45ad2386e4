// Keeps the page up with the building: the server sends finished HTML, this puts it in its place.
"use strict";

const MAX_EVENTS = 50;
const main = document.getElementById("main");
const connection = document.getElementById("connection");

function show(up) {
  const text = up ? document.body.dataset.on : document.body.dataset.off;
  if (connection.textContent !== text) connection.textContent = text;
  connection.classList.toggle("off", !up);
}

function element(html) {
  const template = document.createElement("template");
  template.innerHTML = html;
  return template.content.firstElementChild;
}

function put(list, id, html) {
  const old = document.getElementById(id);
  if (html === null) {
    if (old) old.remove();
    return;
  }
  const fresh = element(html);
  if (old) {
    if (old.outerHTML !== fresh.outerHTML) old.replaceWith(fresh);
    return;
  }
  const after = [...list.children].find((each) => each.id > id);
  list.insertBefore(fresh, after || null);
}

function apply(part) {
  document.getElementById("summary").innerHTML = part.summary;
  for (const [id, html] of Object.entries(part.lanes)) put(document.getElementById("lanes"), id, html);
  for (const [id, html] of Object.entries(part.gates)) put(document.getElementById("gates"), id, html);
  if (part.alarms !== null) document.getElementById("alarms").innerHTML = part.alarms;
  const open = document.getElementById("open");
  if (open.innerHTML !== part.open) open.innerHTML = part.open;
  const events = document.getElementById("events");
  for (const html of part.events) {
    const fresh = element(html);
    if (!document.getElementById(fresh.id)) events.prepend(fresh);
  }
  while (events.children.length > MAX_EVENTS) events.lastElementChild.remove();
}

const source = new EventSource(document.body.dataset.live);
source.addEventListener("open", () => show(true));
source.addEventListener("error", () => show(false));
source.addEventListener("all", (event) => { main.innerHTML = JSON.parse(event.data).main; });
source.addEventListener("part", (event) => apply(JSON.parse(event.data)));

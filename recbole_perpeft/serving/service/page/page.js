"use strict";

const LIST = 12, OF_A_GROUP = 8;
const part = (id) => document.getElementById(id);
let asked = 0;

async function ask(path, body) {
  const sent = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const answer = await fetch(path, sent);
  const told = await answer.json();
  if (!answer.ok) throw new Error(told.error);
  return told;
}

function element(name, text, kind) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function figure(item, title) {
  const made = element("figure"), tile = element("div", (title || item.item).slice(0, 1), "tile");
  let picture = tile;
  if (item.picture) {
    picture = element("img");
    picture.addEventListener("load", () => picture.classList.toggle("loaded", picture.naturalWidth > 0));
    picture.addEventListener("error", () => picture.replaceWith(tile));
    picture.src = item.picture;
    picture.alt = title || item.item;
  }
  const words = element("figcaption", title || "");
  words.title = title || "";
  words.prepend(element("b", item.item));
  made.append(picture, words);
  return made;
}

function show(place, items, column, shared) {
  place.replaceChildren(...items.map((item) => {
    const made = figure(item, item[column]);
    if (shared && shared.has(item.item)) made.classList.add("shared");
    return made;
  }));
}

async function group(number, user, own, column, shared) {
  const row = element("div", undefined, number === own ? "group own" : "group");
  const name = element("div", `Group ${number}`);
  if (number === own) name.append(element("br"), element("small", "the user's own"));
  const items = element("div", undefined, "items");
  row.append(name, items);
  const list = await ask("/recommend", { user, k: OF_A_GROUP, by_group: number });
  show(items, list.items, column, shared);
  return row;
}

async function showUser(user) {
  const mine = ++asked, about = await ask("/health");
  const [bought, list] = await Promise.all([
    ask(`/users/${encodeURIComponent(user)}`), ask("/recommend", { user, k: LIST }),
  ]);
  const own = list.group, numbers = [...Array(about.groups).keys()];
  const order = own === null ? [] : [own, ...numbers.filter((number) => number !== own)];
  const shared = new Set(list.items.map((item) => item.item));
  const rows = await Promise.all(order.map((number) => group(number, user, own, about.title, shared)));
  if (mine !== asked) return; // another user was asked for meanwhile
  part("about").textContent =
    `${about.model} on ${about.dataset}: ${about.users} users, ${about.items} items, ${about.groups || "no"} groups`;
  part("user").value = user;
  part("bought").textContent = `${bought.history.length} items, the newest last`;
  part("served").textContent = own === null ? "" : `to ${user}, of group ${own}`;
  show(part("history"), bought.history, "title");
  show(part("list"), list.items, about.title);
  part("groups").replaceChildren(...rows);
  part("by-group").hidden = !rows.length;
}

async function withErrors(what) {
  part("error").hidden = true;
  try {
    await what();
    document.body.dataset.shown = part("user").value;
  } catch (error) {
    part("error").textContent = error.message;
    part("error").hidden = false;
    console.error(error);
  }
}

async function offer() {
  const { users } = await ask(`/users?start=${encodeURIComponent(part("user").value)}`);
  part("users").replaceChildren(...users.map((user) => {
    const option = element("option");
    option.value = user;
    return option;
  }));
  return users;
}

part("choose").addEventListener("submit", (event) => {
  event.preventDefault();
  withErrors(() => showUser(part("user").value.trim()));
});
part("user").addEventListener("input", () => withErrors(offer));
part("another").addEventListener("click", () => withErrors(async () => {
  part("user").value = "";
  const users = await offer();
  await showUser(users[Math.floor(Math.random() * users.length)]);
}));
withErrors(async () => {
  const wanted = new URLSearchParams(location.search).get("user");
  const users = await offer();
  await showUser(wanted || users[0]);
});

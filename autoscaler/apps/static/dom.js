// How does text get onto the page? Only as text: names come from clusters, and a name must never become markup.

/** A new element with a class and a text or children; falsy parts are left out. */
export function element(tag, className, ...content) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  for (const part of content) if (part != null) node.append(part);
  return node;
}

/** Set a node's text if it differs, so that a selection or a screen reader is not disturbed for nothing. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Make `parent` hold exactly `count` children made by `make(index)`, keeping those that are there. */
export function keepChildren(parent, count, make) {
  while (parent.children.length > count) parent.lastElementChild.remove();
  while (parent.children.length < count) parent.append(make(parent.children.length));
  return parent.children;
}

export const byId = (id) => document.getElementById(id);

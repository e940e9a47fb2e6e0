"use strict";

function element(name, text, kind) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function kindOf(schema, schemas) {
  if (schema.$ref) return kindOf(schemas[schema.$ref.split("/").pop()], schemas);
  if (schema.anyOf) return schema.anyOf.map((one) => kindOf(one, schemas)).join(" or ");
  if (schema.type === "array") return `list of ${kindOf(schema.items, schemas)}`;
  if (schema.properties) return `{${Object.keys(schema.properties).join(", ")}, …}`;
  return schema.type || "any";
}

function fields(schema, schemas) {
  const table = element("table"), head = element("tr");
  head.append(...["field", "type", "default", ""].map((name) => element("th", name)));
  table.append(head);
  for (const [name, field] of Object.entries(schema.properties)) {
    const row = element("tr"), needed = (schema.required || []).includes(name);
    const value = needed ? "needed" : JSON.stringify(field.default);
    row.append(...[name, kindOf(field, schemas), value, field.description || ""].map((text) => element("td", text)));
    table.append(row);
  }
  return table;
}

async function show() {
  const told = await (await fetch("/openapi.json")).json(), schemas = told.components.schemas;
  for (const [path, methods] of Object.entries(told.paths)) {
    for (const [method, request] of Object.entries(methods)) {
      const made = element("div", undefined, "request"), body = request.requestBody;
      made.append(element("code", `${method.toUpperCase()} ${path}`), element("div", request.description || ""));
      if (body) {
        const name = body.content["application/json"].schema.$ref.split("/").pop();
        made.append(fields(schemas[name], schemas));
        for (const inner of Object.values(schemas[name].properties)) {
          if (inner.items && inner.items.$ref) made.append(fields(schemas[inner.items.$ref.split("/").pop()], schemas));
        }
      }
      document.getElementById("requests").append(made);
    }
  }
  document.body.dataset.shown = "requests";
}

show();

// Values as results: the text that the runtime's inspector gives, and what else there is of them.

const INSPECT = { depth: 4, maxArrayLength: 200, maxStringLength: 100_000, breakLength: 100 };
const MIME_FIELDS = {
  "text/plain": "text", "text/html": "html", "text/markdown": "markdown", "text/latex": "latex", "image/svg+xml": "svg",
  "image/png": "png", "image/jpeg": "jpeg", "application/pdf": "pdf", "application/javascript": "javascript",
  "text/javascript": "javascript", "application/json": "json", "application/vnd.plotly.v1+json": "plotly",
  "application/vnd.vega.v5+json": "vega", "application/vnd.vega.v6+json": "vega", "application/geo+json": "geojson",
};
const DOCUMENTS = new Set(["json", "plotly", "vega", "vegaLite", "geojson"]);
const LARGEST_JSON = 1024 * 1024;

function inspected(value) {
  try {
    return util.inspect(value, INSPECT);
  } catch (error) {
    return `<a value that can't be shown: ${safeText(error)}>`;
  }
}

function safeText(value) {
  try {
    return String(value);
  } catch {
    return "a value without a text";
  }
}

// As JSON, if it is a plain object or an array and JSON has all of it.
function asJson(value) {
  try {
    if (typeof value !== "object" || value === null) return undefined;
    const prototype = Object.getPrototypeOf(value);
    if (Array.isArray(value) && value.length > LARGEST_JSON / 2) return undefined;
    if (!Array.isArray(value) && prototype !== Object.prototype && prototype !== null) return undefined;
    const text = JSON.stringify(value);
    return text === undefined || text.length > LARGEST_JSON ? undefined : JSON.parse(text);
  } catch {
    return undefined; // it is circular, holds a BigInt, or has a getter that throws
  }
}

function picture(value) {
  if (util.types.isProxy(value) || !(value instanceof Uint8Array)) return undefined;
  if (value[0] === 0x89 && value[1] === 0x50 && value[2] === 0x4e && value[3] === 0x47) return "png";
  if (value[0] === 0xff && value[1] === 0xd8 && value[2] === 0xff) return "jpeg";
  return undefined;
}

function representations(value) {
  const kind = picture(value);
  if (kind) return { text: `<${kind}, ${value.length} bytes>`, [kind]: Buffer.from(value).toString("base64") };
  const result = { text: inspected(value) };
  const json = asJson(value);
  if (json === undefined) return result;
  const schema = typeof json.$schema === "string" ? json.$schema : "";
  if (schema.includes("/vega-lite/")) result.vegaLite = json;
  else if (schema.includes("/vega/")) result.vega = json;
  else {
    result.json = json;
    if (json.type === "FeatureCollection" && Array.isArray(json.features)) result.geojson = json;
    if (json.type === "Feature" && "geometry" in json) result.geojson = json;
  }
  return result;
}

function fieldOf(mime) {
  return MIME_FIELDS[mime] ?? (/^application\/vnd\.vegalite\.v\d+\+json$/.test(mime) ? "vegaLite" : undefined);
}

// A bundle of representations by MIME type, as results have them.
function fromMime(bundle) {
  const result = {};
  for (const [mime, value] of Object.entries(bundle)) {
    const field = fieldOf(mime);
    const plain = value instanceof Uint8Array ? Buffer.from(value).toString("base64") : value;
    if (field === undefined) (result.data ??= {})[mime] = asJson(plain) ?? safeText(plain);
    else result[field] = DOCUMENTS.has(field) ? JSON.parse(JSON.stringify(plain)) : safeText(plain);
  }
  return result;
}

function display(value, { id } = {}) {
  tellResult({ ...representations(value), ...(id === undefined ? {} : { displayId: String(id) }) });
}

display.update = (id, value) => tellResult({ ...representations(value), displayId: String(id), update: true });
display.mime = (bundle, { id } = {}) =>
  tellResult({ ...fromMime(bundle), ...(id === undefined ? {} : { displayId: String(id) }) });
display.clear = ({ wait = false } = {}) => tellAndWait({ type: "clear_output", wait: Boolean(wait) });
for (const [name, mime] of Object.entries({
  html: "text/html", markdown: "text/markdown", latex: "text/latex", svg: "image/svg+xml", png: "image/png",
  jpeg: "image/jpeg", javascript: "application/javascript", json: "application/json",
  plotly: "application/vnd.plotly.v1+json",
})) {
  display[name] = (value, options) => display.mime({ [mime]: value }, options);
}

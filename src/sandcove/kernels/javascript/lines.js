// Lines of a transpiled script as lines of its source. The transpiler keeps names, texts and numbers in their order: the
// longest common sequence of these says where each comes from. Worked out only when something was thrown.

const WORDS = /\/\/[^\n]*|\/\*[\s\S]*?\*\/|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`(?:[^`\\]|\\.)*`|[\p{ID_Start}$_][\p{ID_Continue}$]*|\d[\w.]*/gu;
const MOST_WORDS = 4000;

function words(text) {
  const found = [];
  let row = 1, lineStart = 0, from = 0;
  for (const match of text.matchAll(WORDS)) {
    for (let at = text.indexOf("\n", from); at >= 0 && at < match.index; at = text.indexOf("\n", at + 1)) {
      row++;
      lineStart = at + 1;
    }
    from = match.index;
    const word = match[0];
    if (word.startsWith("//") || word.startsWith("/*")) continue;
    found.push({ word: /^["'`]/.test(word) ? word.slice(1, -1) : word, row, column: match.index - lineStart + 1 });
    if (found.length >= MOST_WORDS) break;
  }
  return found;
}

function aligned(source, script) {
  const from = words(source), to = words(script);
  const width = from.length + 1;
  const lengths = new Uint16Array((to.length + 1) * width);
  for (let i = to.length - 1; i >= 0; i--) {
    for (let j = from.length - 1; j >= 0; j--) {
      lengths[i * width + j] = to[i].word === from[j].word
        ? lengths[(i + 1) * width + j + 1] + 1
        : Math.max(lengths[(i + 1) * width + j], lengths[i * width + j + 1]);
    }
  }
  const pairs = [];
  for (let i = 0, j = 0; i < to.length && j < from.length; ) {
    if (to[i].word === from[j].word) pairs.push({ row: to[i].row, column: to[i].column, line: from[j].row }), i++, j++;
    else if (lengths[(i + 1) * width + j] >= lengths[i * width + j + 1]) i++;
    else j++;
  }
  return (row, column) => {
    const onRow = pairs.filter((pair) => pair.row === row);
    const before = onRow.filter((pair) => pair.column <= column);
    const nearest = before.at(-1) ?? onRow[0] ?? pairs.filter((pair) => pair.row < row).at(-1);
    return nearest?.line;
  };
}

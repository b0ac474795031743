import { useState } from "react";

export function Counter() {
  const [count, setCount] = useState(0);
  return (
    <main style={{ font: "24px sans-serif", textAlign: "center" }}>
      <h1>Hello</h1>
      <button onClick={() => setCount(count + 1)}>clicked {count} times</button>
    </main>
  );
}

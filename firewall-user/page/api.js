// Asks the daemon. Everything goes to where the page came from, and nothing is ever sent but GET.

const PATIENCE = 8000;

export async function ask(path) {
  const cancel = new AbortController();
  const timer = setTimeout(() => cancel.abort(), PATIENCE);
  try {
    const answer = await fetch(`/api/v1/${path}`, {
      signal: cancel.signal,
      headers: { Accept: "application/json" },
    });
    if (!answer.ok) {
      throw new Error(`${path} answered ${answer.status}`);
    }
    return await answer.json();
  } finally {
    clearTimeout(timer);
  }
}

// Asks again and again and shows what comes. What changes fast is asked every two seconds, the rest every ten; while the daemon does
// not answer, what was read last stays, and says how old it is.

import { ask } from "./api.js";
import { byId } from "./dom.js";
import { showExposure } from "./exposure.js";
import { showIncidents } from "./incidents.js";
import { showRules, startRules } from "./rules.js";
import { showServices, startServices } from "./services.js";
import { showSources, sourcesPath, startSources } from "./sources.js";
import { showAge, showSummary, showVerdict } from "./summary.js";
import { addTraffic, history, latestTime, showTraffic, startTraffic } from "./traffic.js";

const FAST = 2000;
const SLOW_EVERY = 5;

let read = null;
let round = 0;
let running = false;

async function fast() {
  const [status, traffic, incidents, sources, bans] = await Promise.all([
    ask("status"),
    ask(`traffic?since=${latestTime()}`),
    ask("incidents"),
    ask(sourcesPath()),
    ask("bans"),
  ]);
  return () => {
    addTraffic(traffic);
    showVerdict(showIncidents(incidents.incidents));
    showSummary({ status, traffic: history() });
    showTraffic();
    showSources(sources.sources, bans.bans);
  };
}

async function slow() {
  const [rules, policy, services, surface] = await Promise.all([
    ask("rules"),
    ask("policy/rules"),
    ask("services"),
    // Null where the host cannot be looked at, or not yet.
    ask("surface"),
  ]);
  return () => {
    showRules(rules.rules, policy);
    showExposure(policy, rules.rules, surface);
    showServices(services.ranges);
  };
}

// What is to be shown, or null if the daemon does not answer.
async function readAll() {
  try {
    const parts = [await fast()];
    if (round % SLOW_EVERY === 0) {
      parts.push(await slow());
    }
    return parts;
  } catch {
    return null;
  }
}

async function look() {
  if (running || document.hidden) {
    return;
  }
  running = true;
  const parts = await readAll();
  running = false;
  if (parts === null) {
    // The next round tries everything.
    round = 0;
    showAge(read, true);
    return;
  }
  round += 1;
  read = Date.now();
  showAge(read, false);
  parts.forEach((part) => part());
}

byId("host").textContent = location.host;
startTraffic();
startServices();
startSources(look);
startRules();
document.addEventListener("visibilitychange", look);
setInterval(look, FAST);
look();

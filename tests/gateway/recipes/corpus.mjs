// Sends recorded requests by OpenAI's SDK for Node, and prints what it makes of each answer: a line of JSON for each line
// of its input, which is {"url", "end", "body", "headers", "key"}.
import OpenAI from "openai";
import { createInterface } from "node:readline";

const ends = {
  "/chat/completions": (client) => client.chat.completions,
  "/responses": (client) => client.responses,
  "/embeddings": (client) => client.embeddings,
};

// Its own properties are what a program sees of an error; a stack and the headers differ from call to call.
const told = ({ name, message, status, code, param, type }) => ({ name, message, status, code, param, type });

async function ask({ url, end, body, headers, query, key }) {
  const client = new OpenAI({
    baseURL: url, apiKey: key, maxRetries: 0, timeout: 60_000, defaultHeaders: headers, defaultQuery: query,
  });
  const found = [];
  try {
    const came = await ends[end](client).create(body);
    if (!body.stream) return { answer: came };
    for await (const event of came) found.push(event);
    return { events: found };
  } catch (error) {
    return { events: found, error: told(error) };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(JSON.stringify(await ask(JSON.parse(line))) + "\n");
}

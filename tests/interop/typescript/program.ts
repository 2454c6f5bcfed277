// A worker's round against a store, with types made of openapi.yaml: add, claim, a refusal, finish, look. It prints JSON.
//
// A number holds 53 bits. Ids begin at 1 and fit for a long time; the instants in answers (`duration`) do not, and come
// out rounded. So give every time as a duration, as it is done here, and where exact instants or huge ids matter, read
// the answers by a JSON parser that knows bigint.
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

declare const process: { argv: string[] };

type Task = components["schemas"]["Task"];
const store = createClient<paths>({ baseUrl: process.argv[2]! });
const minute = 60_000_000_000;
const mine = { clientid: 4711 };

function sure<T>({ data, error }: { data?: T; error?: unknown }): T {
  if (data === undefined) throw new Error(JSON.stringify(error));
  return data;
}

const added = sure(await store.POST("/update", { body: { ...mine, adds: [{ group: "a/b ☃", data: "später" }] } }));
const claim = sure(await store.POST("/claim", { body: { ...mine, group: "a/b ☃", duration: minute } }));
const task: Task = claim.tasks[0]!;
const none = sure(await store.POST("/claim", { body: { clientid: 5, group: "a/b ☃", duration: minute } }));
const refused = sure(await store.POST("/update", { body: { clientid: 5, deletes: [task.id] } }));
const done = sure(
  await store.POST("/update", { body: { ...mine, deletes: [task.id], adds: [{ group: "out", data: task.data }] } }),
);
const names = sure(await store.GET("/groups"));
const listed = sure(await store.GET("/group/{name}", { params: { path: { name: "out" } } }));
const one = sure(await store.GET("/task/{id}", { params: { path: { id: task.id } } }));
const wrong = await store.POST("/claim", { body: { ...mine, group: "", duration: minute } });

console.log(
  JSON.stringify({
    added: added.tasks.map(({ id, group, data }) => ({ id, group, data })),
    claimed: { id: task.id, data: task.data, ownerid: task.ownerid },
    none: none.tasks,
    refused: refused.error?.owned,
    done: done.tasks.map(({ data }) => data),
    names,
    listed: listed.map(({ data }) => data),
    one,
    wrong: wrong.error?.status,
  }),
);

// A round of work with the published Go client: all of its six methods, what is refused, and what is wrong.
//
// It takes the address of a server with an empty store, and prints for each call a line of JSON: what was called, the
// value or the error that came of it, and for a refusal its culprits. The first fifteen calls are those of
// tests/wire/go_client_requests.jsonl, in their order.
package main

import (
	"encoding/json"
	"errors"
	"log"
	"os"

	"entrogo.com/taskstore/service/client"
	"entrogo.com/taskstore/service/protocol"
)

const (
	second  = 1_000_000_000
	missing = 987654321
)

type line struct {
	Call    string                      `json:"call"`
	Value   any                         `json:"value"`
	Error   string                      `json:"error,omitempty"`
	Refused *protocol.TaskResponseError `json:"refused,omitempty"`
}

// tell prints what came of a call, and hands the value on.
func tell[T any](call string) func(T, error) T {
	return func(value T, err error) T {
		said := line{Call: call, Value: value}
		if err != nil {
			said.Error = err.Error()
			errors.As(err, &said.Refused)
		}
		if err := json.NewEncoder(os.Stdout).Encode(said); err != nil {
			log.Fatal(err)
		}
		return value
	}
}

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: interop URL")
	}
	store := client.NewHTTPClient(os.Args[1])
	type task = protocol.TaskInfo
	groups := tell[[]string]
	one := tell[*task]
	many := tell[[]task]

	groups("groups")(store.Groups())
	many("add")(store.Update([]task{
		{Group: "map", Data: "hello"},
		{Group: "map", Data: "später ☃", TimeSpec: -60 * second},
	}, nil, nil, nil))
	claimed := one("claim")(store.Claim("map", 30*second, nil))
	if claimed == nil {
		log.Fatal("nothing was claimed, so there is nothing to go on with")
	}
	one("claim that depends on nothing")(store.Claim("map", 30*second, []int64{missing}))
	one("task")(store.Task(claimed.ID))
	many("tasks")(store.Tasks(claimed.ID, missing))
	one("missing task")(store.Task(missing))
	many("group")(store.Group("map", 0, true))
	many("group, what is available")(store.Group("map", 1, false))
	many("group without tasks")(store.Group("nosuch", 0, true))
	renewed := many("renew")(store.Update(nil,
		[]task{{ID: claimed.ID, Data: "renewed", TimeSpec: -1 * second}}, nil, []int64{claimed.ID}))
	many("delete too late")(store.Update(nil, nil, []int64{claimed.ID}, nil))
	many("finish too late")(store.Update([]task{{Group: "out", Data: "r"}}, nil, []int64{claimed.ID}, nil))
	many("nothing")(store.Update(nil, nil, nil, nil))
	many("add without a group")(store.Update([]task{{Data: "nogroup"}}, nil, nil, nil))
	if len(renewed) == 1 {
		many("finish")(store.Update([]task{{Group: "out", Data: "r"}}, nil, []int64{renewed[0].ID}, nil))
	}
	one("claim of nothing")(store.Claim("nosuch", 30*second, nil))
	groups("groups in the end")(store.Groups())
}

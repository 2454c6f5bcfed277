// Package protocol has the values that the Go client takes and gives.
package protocol

import "fmt"

// TaskInfo is a task. Its field for the time is called duration on the wire.
type TaskInfo struct {
	ID       int64  `json:"id"`
	Group    string `json:"group"`
	Data     string `json:"data"`
	TimeSpec int64  `json:"duration"`
	OwnerID  int32  `json:"ownerid"`
}

// TaskResponseError names every culprit of a refusal.
type TaskResponseError struct {
	Changes, Deletes, Depends, Owned []int64
	Bugs                             []error // which Go cannot read, unless the list is empty
}

// HasErrors tells whether there is any culprit.
func (e *TaskResponseError) HasErrors() bool {
	return len(e.Changes)+len(e.Deletes)+len(e.Depends)+len(e.Owned)+len(e.Bugs) > 0
}

func (e *TaskResponseError) Error() string {
	return fmt.Sprintf("refused: %+v", *e)
}

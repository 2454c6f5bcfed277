// Package client sends what the published Go client was seen to send.
package client

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"entrogo.com/taskstore/service/protocol"
)

type answer struct {
	Tasks []protocol.TaskInfo
	Error *protocol.TaskResponseError
}

type updateRequest struct {
	ClientID int32               `json:"clientid"`
	Adds     []protocol.TaskInfo `json:"adds"`
	Updates  []protocol.TaskInfo `json:"updates"`
	Deletes  []int64             `json:"deletes"`
	Depends  []int64             `json:"depends"`
}

type claimRequest struct {
	ClientID int32   `json:"clientid"`
	Group    string  `json:"group"`
	Duration int64   `json:"duration"`
	Depends  []int64 `json:"depends"`
}

var id = func() int32 {
	var one [1]byte // the published client draws four, and keeps one of them
	if _, err := rand.Read(one[:]); err != nil {
		panic(err)
	}
	return int32(one[0])
}()

// ID is who this process is to the store.
func ID() int32 { return id }

// HTTPClient speaks to the server at an address.
type HTTPClient struct{ url string }

// NewHTTPClient makes a client for the server at this address.
func NewHTTPClient(url string) *HTTPClient { return &HTTPClient{strings.TrimSuffix(url, "/")} }

// call sends a request, with a body if there is content and without a Content-Type, and reads the answer into result.
func (c *HTTPClient) call(method, path string, content, result any) error {
	var body io.Reader
	if content != nil {
		text, err := json.Marshal(content)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	request, err := http.NewRequest(method, c.url+path, body)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(response.Body)
		return fmt.Errorf("error status %q: %s", response.Status, text)
	}
	return json.NewDecoder(response.Body).Decode(result)
}

// Groups lists the names of all groups.
func (c *HTTPClient) Groups() (names []string, err error) {
	err = c.call("GET", "/group", nil, &names)
	return names, err
}

// Task reads a task; one that is missing comes out empty.
func (c *HTTPClient) Task(id int64) (*protocol.TaskInfo, error) {
	task := new(protocol.TaskInfo)
	err := c.call("GET", fmt.Sprintf("/task/%d", id), nil, task)
	return task, err
}

// Tasks reads several tasks.
func (c *HTTPClient) Tasks(ids ...int64) (tasks []protocol.TaskInfo, err error) {
	list := strings.ReplaceAll(strings.Trim(fmt.Sprint(ids), "[]"), " ", ",")
	err = c.call("GET", "/tasks/"+list, nil, &tasks)
	return tasks, err
}

// Group reads the tasks of a group.
func (c *HTTPClient) Group(name string, limit int, owned bool) (tasks []protocol.TaskInfo, err error) {
	also := 0
	if owned {
		also = 1
	}
	err = c.call("GET", fmt.Sprintf("/group/%s?limit=%d&owned=%d", name, limit, also), nil, &tasks)
	return tasks, err
}

// Update adds, changes and deletes tasks in one step.
func (c *HTTPClient) Update(adds, updates []protocol.TaskInfo, deletes, depends []int64) ([]protocol.TaskInfo, error) {
	var got answer
	if err := c.call("POST", "/update", updateRequest{ID(), adds, updates, deletes, depends}, &got); err != nil {
		return nil, err
	}
	if got.Error != nil && got.Error.HasErrors() {
		return nil, got.Error
	}
	return got.Tasks, nil
}

// Claim takes a task of a group; nil where there is none.
func (c *HTTPClient) Claim(group string, duration int64, depends []int64) (*protocol.TaskInfo, error) {
	var got answer
	if err := c.call("POST", "/claim", claimRequest{ID(), group, duration, depends}, &got); err != nil {
		return nil, err
	}
	if got.Error != nil {
		return nil, got.Error
	}
	if len(got.Tasks) == 0 {
		return nil, nil
	}
	return &got.Tasks[0], nil
}

// What the published Go client was seen to send, and what Go reads of the answers, under its names: for machines that
// cannot have the module itself. Ours, and not a copy; test_go.py holds it to tests/wire/go_client_requests.jsonl.
module entrogo.com/taskstore

go 1.21

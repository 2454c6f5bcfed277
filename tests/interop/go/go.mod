// A program of ours that uses the published Go client. test_go.py builds it twice: with the published module in place of
// the stand-in, where that can be had, and as it is here.
module interop

go 1.21

require entrogo.com/taskstore v0.0.0

replace entrogo.com/taskstore => ./standin

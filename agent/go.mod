module github.com/ebbwatch/ebbwatch/agent

go 1.26.0

require (
	github.com/ebbwatch/ebbwatch v0.0.0
	golang.org/x/sys v0.49.0
)

require (
	github.com/cilium/ebpf v0.22.0 // indirect
	github.com/klauspost/compress v1.20.3 // indirect
	google.golang.org/protobuf v1.36.12 // indirect
)

replace github.com/ebbwatch/ebbwatch => ../

tool github.com/cilium/ebpf/cmd/bpf2go

module github.com/ebbwatch/ebbwatch/deploy/standalone

go 1.26.0

require (
	github.com/ebbwatch/ebbwatch v0.0.0
	github.com/ebitengine/purego v0.11.3
	github.com/spf13/cobra v1.10.2
	golang.org/x/sys v0.49.0
)

require (
	github.com/goccy/go-yaml v1.19.2 // indirect
	github.com/inconshreveable/mousetrap v1.1.0 // indirect
	github.com/spf13/pflag v1.0.9 // indirect
)

replace (
	github.com/ebbwatch/ebbwatch => ../../
	github.com/ebbwatch/ebbwatch/agent => ../../agent
	github.com/ebbwatch/ebbwatch/analyzer => ../../analyzer
	github.com/ebbwatch/ebbwatch/collector => ../../collector
)

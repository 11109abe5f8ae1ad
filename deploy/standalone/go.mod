module github.com/ebbwatch/ebbwatch/deploy/standalone

go 1.26

require (
	github.com/ebbwatch/ebbwatch v0.0.0
	github.com/ebbwatch/ebbwatch/agent v0.0.0
	github.com/ebbwatch/ebbwatch/analyzer v0.0.0
	github.com/ebbwatch/ebbwatch/collector v0.0.0
)

replace (
	github.com/ebbwatch/ebbwatch => ../../
	github.com/ebbwatch/ebbwatch/agent => ../../agent
	github.com/ebbwatch/ebbwatch/analyzer => ../../analyzer
	github.com/ebbwatch/ebbwatch/collector => ../../collector
)

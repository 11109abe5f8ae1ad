module github.com/ebbwatch/ebbwatch/analyzer

go 1.26

require github.com/ebbwatch/ebbwatch v0.0.0

replace github.com/ebbwatch/ebbwatch => ../

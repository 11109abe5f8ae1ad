package app

import (
	"errors"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect/beacon"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect/exfiltration"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect/scan"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect/volume"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/store"
	"github.com/ebbwatch/ebbwatch/internal/config"
)

// Detectors configures every detector. A detector is added here and in list.
type Detectors struct {
	Volume       volume.Config       `yaml:"volume"`
	Scan         scan.Config         `yaml:"scan"`
	ScanSlow     scan.Config         `yaml:"scan_slow"`   // over a day
	Beacon       beacon.Config       `yaml:"beacon"`      // calls every few seconds
	BeaconSlow   beacon.Config       `yaml:"beacon_slow"` // calls every half minute to hour
	Exfiltration exfiltration.Config `yaml:"exfiltration"`
}

// DefaultDetectors returns every detector's defaults.
func DefaultDetectors() Detectors {
	return Detectors{
		Volume: volume.DefaultConfig(), Scan: scan.FastConfig(), ScanSlow: scan.SlowConfig(), Beacon: beacon.FastConfig(),
		BeaconSlow: beacon.SlowConfig(), Exfiltration: exfiltration.DefaultConfig(),
	}
}

// entry is one configured detector.
type entry struct {
	name    string
	enabled bool
	check   interface{ Validate() error }
	make    func(name string, s *store.Store) detect.Detector
}

func (d *Detectors) entries() []entry {
	return []entry{
		{"volume", d.Volume.Enabled, &d.Volume, func(n string, s *store.Store) detect.Detector { return volume.New(n, d.Volume, s) }},
		{"scan", d.Scan.Enabled, &d.Scan, func(n string, s *store.Store) detect.Detector { return scan.New(n, d.Scan, s) }},
		{"scan_slow", d.ScanSlow.Enabled, &d.ScanSlow, func(n string, s *store.Store) detect.Detector { return scan.New(n, d.ScanSlow, s) }},
		{"beacon", d.Beacon.Enabled, &d.Beacon, func(n string, s *store.Store) detect.Detector { return beacon.New(n, d.Beacon, s) }},
		{"beacon_slow", d.BeaconSlow.Enabled, &d.BeaconSlow, func(n string, s *store.Store) detect.Detector { return beacon.New(n, d.BeaconSlow, s) }},
		{"exfiltration", d.Exfiltration.Enabled, &d.Exfiltration, func(n string, s *store.Store) detect.Detector { return exfiltration.New(n, d.Exfiltration, s) }},
	}
}

// Validate names the keys that cannot work, one of each detector.
func (d *Detectors) Validate() error {
	enabled := 0
	var wrong []error
	for _, e := range d.entries() {
		wrong = append(wrong, config.Under(e.name, e.check.Validate()))
		if e.enabled {
			enabled++
		}
	}
	if enabled == 0 {
		wrong = append(wrong, errors.New("at least one detector must be enabled"))
	}
	return config.All(wrong...)
}

// list returns the enabled detectors.
func (d *Detectors) list(s *store.Store) []detect.Detector {
	var detectors []detect.Detector
	for _, e := range d.entries() {
		if e.enabled {
			detectors = append(detectors, e.make(e.name, s))
		}
	}
	return detectors
}

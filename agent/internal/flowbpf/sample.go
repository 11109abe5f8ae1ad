package flowbpf

import "fmt"

// MaxSampling is the highest rate that SetSampling accepts.
const MaxSampling = 1 << 16

// SetSampling makes the programs count one packet in n, each with the same
// chance, from the next drain on. n is a power of two; 1 counts every packet.
// Whatever is counted is then an n-th of what it stands for, on average.
func (d *Datapath) SetSampling(n uint32) error {
	if n < 1 || n > MaxSampling || n&(n-1) != 0 {
		return fmt.Errorf("sampling rate %d is not a power of two from 1 to %d", n, MaxSampling)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.nextRate = n
	return nil
}

// Sampling returns the rate of the interval that runs.
func (d *Datapath) Sampling() uint32 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sampling[d.generation]
}

// sample gives a generation that is about to begin its rate, which it keeps: all
// its entries are scaled by the same number.
func (d *Datapath) sample(generation uint32) error {
	if d.sampling[generation] == d.nextRate {
		return nil
	}
	var masks [2]uint32
	if err := d.objs.EbbSampleMask.Get(&masks); err != nil {
		return fmt.Errorf("read sampling: %w", err)
	}
	masks[generation] = d.nextRate - 1
	if err := d.objs.EbbSampleMask.Set(masks); err != nil {
		return fmt.Errorf("set sampling: %w", err)
	}
	d.sampling[generation] = d.nextRate
	return nil
}

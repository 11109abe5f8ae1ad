package ebbwatch

import (
	"bytes"
	"errors"
	"runtime"
	"testing"

	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/encoding/protowire"
)

func TestDecodeRefuses(t *testing.T) {
	one := func() fields { return validHead(1).bytes(fieldAddresses4, 10, 0, 0, 1).str(fieldStrings, "eth0") }
	for name, test := range map[string]struct {
		message []byte
		is      error // nil: any error
	}{
		"nothing":                            {nil, ErrInvalid},
		"what is not zstd":                   {[]byte("hello"), nil},
		"a frame that is cut":                {encode(t, goldenBatch())[:60], nil},
		"a newer version":                    {raw(t, append(one(), fields(nil).uint(fieldVersion, Version+1)...)), ErrVersion},
		"no version":                         {raw(t, one()[2:]), ErrInvalid},
		"a message over the limit":           {bytes.Repeat([]byte{1}, MaxBatchEncoded+1), ErrInvalid},
		"an agent that is no subject token":  {raw(t, append(one(), fields(nil).str(fieldAgent, "a.b")...)), ErrInvalid},
		"a boot id that is no UUID":          {raw(t, append(one(), fields(nil).str(fieldBoot, "boot")...)), ErrInvalid},
		"a time after 2262":                  {raw(t, append(one(), fields(nil).uint(fieldTime, maxTime+1)...)), ErrInvalid},
		"a column that is too short":         {raw(t, one().bytes(20)), ErrInvalid},
		"a column that is too long":          {raw(t, one().bytes(20, 1, 1)), ErrInvalid},
		"a column that ends within a value":  {raw(t, one().bytes(20, 0x80)), ErrInvalid},
		"a start column that is too long":    {raw(t, one().bytes(16, 1, 1)), ErrInvalid},
		"a start column that is too short":   {raw(t, one().bytes(16)), ErrInvalid},
		"a value over its column's range":    {raw(t, one().bytes(20, 0x80, 0x80, 0x04)), ErrInvalid},
		"a byte over its column's range":     {raw(t, one().bytes(22, 0x80, 0x02)), ErrInvalid},
		"a varint of eleven bytes":           {raw(t, one().bytes(27, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1)), ErrInvalid},
		"an address index out of bounds":     {raw(t, one().bytes(18, 1)), ErrInvalid},
		"an interface index out of bounds":   {raw(t, one().bytes(24, 1)), ErrInvalid},
		"an unknown conn_state":              {raw(t, one().bytes(32, 13)), ErrInvalid},
		"an unknown initiator":               {raw(t, one().bytes(23, 4)), ErrInvalid},
		"final that is neither 0 nor 1":      {raw(t, one().bytes(36, 2)), ErrInvalid},
		"a sampling rate of 0":               {raw(t, one().bytes(37, 0)), ErrInvalid},
		"a start before 1970":                {raw(t, one().bytes(16, protowire.AppendVarint(nil, protowire.EncodeZigZag(-1001))...)), ErrInvalid},
		"a start that overflows":             {raw(t, one().bytes(16, protowire.AppendVarint(nil, protowire.EncodeZigZag(1<<63-1))...)), ErrInvalid},
		"an end that overflows":              {raw(t, one().bytes(17, protowire.AppendVarint(nil, 1<<64-1)...)), ErrInvalid},
		"more flows than allowed":            {raw(t, validHead(MaxBatchFlows+1)), ErrInvalid},
		"flows without columns or addresses": {raw(t, validHead(3)), ErrInvalid},
		"half an IPv4 address":               {raw(t, one().bytes(fieldAddresses4, 1, 2)), ErrInvalid},
		"half an IPv6 address":               {raw(t, one().bytes(fieldAddresses6, make([]byte, 15)...)), ErrInvalid},
		"IPv4 written as IPv6":               {raw(t, one().bytes(fieldAddresses6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 0, 0, 1)), ErrInvalid},
		"a name that is too long":            {raw(t, one().bytes(fieldStrings, make([]byte, MaxName+1)...)), ErrInvalid},
		"a name that is not UTF-8":           {raw(t, one().bytes(fieldStrings, 0xff)), ErrInvalid},
		"more attach points than allowed":    {raw(t, append(one(), bytes.Repeat(fields(nil).bytes(fieldAttach), maxAttachPoints+1)...)), ErrInvalid},
		"more losses than allowed":           {raw(t, append(one(), bytes.Repeat(fields(nil).bytes(fieldLosses), maxLosses+1)...)), ErrInvalid},
		"an attach point that is cut":        {raw(t, one().bytes(fieldAttach, 0x1a, 5)), ErrInvalid},
		"a tag of field 0":                   {raw(t, append(one(), 0x02, 0x00)), ErrInvalid},
		"a group that never ends":            {raw(t, append(one(), 0x0b)), ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			var b Batch
			err := newDecoder(t).Decode(test.message, &b)
			if err == nil || test.is != nil && !errors.Is(err, test.is) {
				t.Errorf("error is %v, want %v", err, test.is)
			}
		})
	}
}

func TestADecompressionBombCostsBoundedMemory(t *testing.T) {
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	bomb := z.EncodeAll(make([]byte, 512<<20), nil)
	var streamed bytes.Buffer // without the content's size in its header
	w, err := zstd.NewWriter(&streamed)
	if err != nil {
		t.Fatal(err)
	}
	for range 128 {
		if _, err := w.Write(make([]byte, 4<<20)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	d := newDecoder(t)
	for name, message := range map[string][]byte{"that says its size": bomb, "that does not say its size": streamed.Bytes()} {
		if len(message) > MaxBatchEncoded {
			t.Fatalf("the bomb %s has %d bytes: the size check would catch it", name, len(message))
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		var b Batch
		if err := d.Decode(message, &b); err == nil {
			t.Errorf("a bomb %s decodes", name)
		}
		runtime.ReadMemStats(&after)
		if got := after.TotalAlloc - before.TotalAlloc; got > 8*MaxBatchDecoded {
			t.Errorf("a bomb %s allocates %d MiB", name, got>>20)
		}
	}
}

func TestManyDefaultsCostBoundedMemory(t *testing.T) {
	message := raw(t, validHead(MaxBatchFlows).bytes(fieldAddresses4, 10, 0, 0, 1).str(fieldStrings, "eth0"))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var b Batch
	if err := newDecoder(t).Decode(message, &b); err != nil { // valid: every flow the same
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 32<<20 {
		t.Errorf("%d bytes make the decoder allocate %d MiB", len(message), got>>20)
	}
}

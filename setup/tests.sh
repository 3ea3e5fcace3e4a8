#!/bin/sh
# Install from Debian what the tests want and start a Docker daemon; without the right to, say what is missing.
set -eu
cd "$(dirname "$0")/.."
mkdir -p build
say() { printf '\033[1m%s\033[0m\n' "$*"; }

missing=
need() { # need COMMAND-OR-PATH PACKAGE
    if ! command -v "$1" >/dev/null 2>&1 && ! [ -e "$1" ]; then missing="$missing $2"; fi
}
PATH=$PATH:/usr/sbin:/sbin
need dockerd docker.io
need docker docker.io
need iptables iptables
need debootstrap debootstrap
need ssh openssh-client
need cc gcc
need /usr/include/stdio.h libc6-dev
need chromium chromium
need /usr/share/fonts/truetype/nanum/NanumGothic.ttf fonts-nanum
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing="$missing postgresql"
missing=$(printf '%s\n' $missing | sort -u | tr '\n' ' ')

if [ "$(id -u)" = 0 ]; then sudo=; elif sudo -n true 2>/dev/null; then sudo=sudo; else sudo=no; fi
if [ -n "${missing# }" ]; then
    if [ "$sudo" = no ] || ! command -v apt-get >/dev/null; then
        say "Not installed, and not root: $missing"
        echo "Tests that need them are skipped. To run all: sudo apt-get install $missing"
        exit 0
    fi
    say "Installing from Debian: $missing"
    $sudo apt-get update -qq
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends $missing >build/apt.log 2>&1 || {
        tail -20 build/apt.log
        exit 1
    }
fi
if ! docker info >/dev/null 2>&1 && [ "$sudo" != no ]; then
    say "Starting a Docker daemon"
    if [ -d /run/systemd/system ]; then
        $sudo systemctl start docker
    else
        $sudo sh -c 'setsid dockerd >build/dockerd.log 2>&1 </dev/null &'
    fi
    for _ in $(seq 60); do
        docker info >/dev/null 2>&1 && break
        sleep 1
    done
fi
if docker info >/dev/null 2>&1; then :; else
    echo "No Docker Engine answers${sudo:+ (or this user may not use it)}: tests that need one are skipped."
    [ "$sudo" = no ] || { tail -5 build/dockerd.log 2>/dev/null; exit 1; }
fi

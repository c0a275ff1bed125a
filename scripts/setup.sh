# Messages, and packages through apt. Sourced by ./x and by the scripts beside this one.
# shellcheck shell=bash

say() {
    echo "- $*" >&2
}

# Ends with a message: what failed, and what to do.
stop() {
    echo "error: $*" >&2
    exit 1
}

# Runs a command as root. Never asks for a password where nobody could type one.
as_root() {
    if ((EUID == 0)); then
        "$@"
    elif ! command -v sudo >/dev/null; then
        stop "this needs root, and there is no sudo. As root, run: $*"
    elif [[ -n "${CI:-}" || ! -t 0 ]]; then
        sudo -n "$@"
    else
        sudo "$@"
    fi
}

# Runs apt-get; its output is shown only when it fails.
apt_get() {
    local log
    log="$(mktemp)"
    if as_root env DEBIAN_FRONTEND=noninteractive apt-get "$@" >"$log" 2>&1 </dev/null; then
        rm -f "$log"
    else
        cat "$log" >&2
        rm -f "$log"
        return 1
    fi
}

# Fetches apt's package lists, unless that was done in this run.
apt_lists_fresh=
update_lists() {
    [[ -z "$apt_lists_fresh" ]] || return 0
    say "fetching package lists (apt-get update)"
    apt_get update || stop "apt-get update failed; see above. Mend that, then run ./x again"
    apt_lists_fresh=1
}

# Does apt know a package that can be installed?
is_available() {
    [[ "$(apt-cache policy "$1" 2>/dev/null)" =~ Candidate:\ [0-9] ]]
}

# Installs packages, named as Debian and Ubuntu name them.
install_packages() {
    if ! command -v apt-get >/dev/null; then
        stop "missing: $*. There is no apt here: install what your system calls these packages, then run ./x again"
    fi
    local package
    for package in "$@"; do
        is_available "$package" || update_lists
    done
    say "installing $* (apt-get install)"
    local install=(install --yes --no-install-recommends "$@")
    apt_get "${install[@]}" 2>/dev/null && return
    # Lists that are too old name files that are gone.
    update_lists
    apt_get "${install[@]}" || stop "apt-get install failed; see above. By hand: apt-get install $*"
}

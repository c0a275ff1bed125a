# Finds or installs the Rust toolchain and puts it first on the path. Sourced by ./x, in the top folder.
#
# Two kinds will do: rustup's, with the components of rust-toolchain.toml; and Debian's packages `rustc-web` and
# friends. Both are the same release, with the sources of the standard library, which bare-metal crates compile anew.
# That takes unstable options of rustc and cargo, allowed on a stable release by RUSTC_BOOTSTRAP.
# shellcheck shell=bash

rust_version="$(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)"
rust_host=x86_64-unknown-linux-gnu
rustup_toolchain="${RUSTUP_HOME:-$HOME/.rustup}/toolchains/$rust_version-$rust_host"
debian_packages=(rustc-web cargo-web rust-web-src rust-web-llvm rustfmt-web rust-web-clippy)

# Does a sysroot have all that we need besides rustc and cargo?
is_complete_sysroot() {
    [[ -d "$1/lib/rustlib/src/rust/library/core" && -e "$1/lib/rustlib/$rust_host/bin/rust-lld" &&
        -e "$1/lib/rustlib/$rust_host/bin/llvm-objcopy" ]]
}

has_rustup_toolchain() {
    [[ -x "$rustup_toolchain/bin/cargo-clippy" && -x "$rustup_toolchain/bin/rustfmt" ]] &&
        is_complete_sysroot "$rustup_toolchain"
}

may_use_rustup() {
    [[ "${RUSTUP_AUTO_INSTALL:-1}" != 0 ]] && command -v rustup >/dev/null
}

# Adds the toolchain beside the user's others; their default stays what it is.
install_with_rustup() {
    say "installing Rust $rust_version (rustup toolchain install)"
    rustup toolchain install "$rust_version" --no-self-update --profile minimal \
        --component rust-src,llvm-tools,rustfmt,clippy >&2 </dev/null && has_rustup_toolchain
}

has_debian_toolchain() {
    local program
    for program in rustc cargo rustfmt cargo-clippy rust-lld; do
        [[ -x "/usr/bin/$program" ]] || return 1
    done
    [[ -d /usr/lib/rustlib/src/rust/library/core && -n "$(debian_objcopy)" ]] &&
        [[ "$(/usr/bin/rustc --version)" == "rustc $rust_version "* ]]
}

# Debian's llvm-objcopy of the highest version; its name ends with the version.
debian_objcopy() {
    find /usr/bin -name 'llvm-objcopy-[0-9]*' | sort --version-sort | tail -n 1
}

debian_has_release() {
    [[ "$(apt-cache policy rustc-web 2>/dev/null)" == *"Candidate: $rust_version"* ]]
}

install_from_debian() {
    command -v apt-get >/dev/null || return 1
    debian_has_release || update_lists
    debian_has_release || return 1
    local package
    for package in rustc rustup; do
        # Installing ours would remove it.
        if [[ "$(dpkg-query --show --showformat='${Status}' "$package" 2>/dev/null)" == *" installed" ]]; then
            stop "Rust $rust_version is needed. Debian's rustc-web has it, but conflicts with your package $package." \
                "Either: apt-get install ${debian_packages[*]} (removes $package); or, with rustup:" \
                "rustup toolchain install $rust_version --component rust-src,llvm-tools,rustfmt,clippy"
        fi
    done
    install_packages "${debian_packages[@]}"
    # rust-lld is a link to a linker whose package, lld-NN, none of these asks for.
    [[ -x /usr/bin/rust-lld ]] || install_packages "$(readlink /usr/bin/rust-lld)"
    has_debian_toolchain
}

# Puts a symbolic link in place; quiet and idle when it is there.
link() {
    [[ "$(readlink "$2" 2>/dev/null)" == "$1" ]] || ln -sfn "$1" "$2"
}

# Debian's packages lack two programs where the boot loader's build looks for them, in the sysroot. So this makes a
# sysroot of links that has them, and a rustc that uses it.
make_debian_sysroot() {
    local own="$PWD/target/toolchain" debian=/usr/lib/rustlib
    local rustlib="$own/sysroot/lib/rustlib" bin="$own/bin" program
    mkdir -p "$rustlib/$rust_host/bin" "$bin"
    link "$debian/etc" "$rustlib/etc"
    link "$debian/src" "$rustlib/src"
    link "$debian/$rust_host/lib" "$rustlib/$rust_host/lib"
    link "$debian/$rust_host/bin/gcc-ld" "$rustlib/$rust_host/bin/gcc-ld"
    link /usr/bin/rust-lld "$rustlib/$rust_host/bin/rust-lld"
    # The boot loader's build wants llvm-objdump to exist, and runs llvm-objcopy only.
    for program in llvm-objcopy llvm-objdump; do
        link "$(debian_objcopy)" "$rustlib/$rust_host/bin/$program"
    done
    for program in cargo cargo-clippy cargo-fmt clippy-driver rustdoc rustfmt; do
        link "/usr/bin/$program" "$bin/$program"
    done
    local wrapper
    wrapper="$(printf '#!/bin/sh\nexec /usr/bin/rustc --sysroot %q "$@"' "$own/sysroot")"
    if [[ "$(cat "$bin/rustc" 2>/dev/null)" != "$wrapper" ]]; then
        echo "$wrapper" >"$bin/rustc"
        chmod +x "$bin/rustc"
    fi
}

# Puts a toolchain first on the path, after installing one if need be.
use_toolchain() {
    if has_rustup_toolchain; then
        :
    elif has_debian_toolchain; then
        :
    elif may_use_rustup && install_with_rustup; then
        :
    elif install_from_debian; then
        :
    else
        stop "Rust $rust_version is needed. With rustup (https://rustup.rs):" \
            "rustup toolchain install $rust_version --component rust-src,llvm-tools,rustfmt,clippy" \
            "(RUSTUP_AUTO_INSTALL=0 keeps ./x from doing that). On Debian 12: apt-get install ${debian_packages[*]}"
    fi

    local bin="$rustup_toolchain/bin"
    if ! has_rustup_toolchain; then
        make_debian_sysroot
        bin="$PWD/target/toolchain/bin"
    fi
    # Cargo looks for cargo-fmt in its own folder first, unless that folder is on the path, further behind.
    export PATH="$bin:$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"
    export RUSTC_BOOTSTRAP=1
    # Programs of rustup that are started by full path shall use this toolchain as well, and never install one.
    export RUSTUP_AUTO_INSTALL=0
}

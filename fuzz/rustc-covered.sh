#!/usr/bin/env bash
# Cargo calls this in the compiler's place (RUSTC_WRAPPER): rustc-covered.sh RUSTC ARGUMENTS. libFuzzer is to see the way
# through what reads foreign bytes. To have it see the way through wgpu, clap and the like, too, would take minutes to build.
covered=" tipi image png fdeflate miniz_oxide flate2 moxcms zune_jpeg zune_core mozjpeg gif weezl tiff fax image_webp
 serde_json csv csv_core safetensors tokenizers regex regex_automata regex_syntax fancy_regex aho_corasick spm_precompiled
 unicode_normalization unicode_normalization_alignments entities half ureq ureq_proto http httparse roxmltree hf_hub "
previous=''
for argument in "$@"; do
    if [ "$previous" = --crate-name ]; then
        case ${covered//$'\n'/ } in *" $argument "*) exec "$@" $TIPI_FUZZ_COVERAGE ;; esac
    fi
    previous=$argument
done
exec "$@"

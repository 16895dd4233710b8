#!/usr/bin/env bash
# The tests under Khronos' validation layers: core checks and synchronisation.
#   validation.sh [--gpu-assisted] [SUITE...] [-- OPTIONS OF THE TESTS]        (default: kernels golden)
# --gpu-assisted puts checks into the shaders instead: slow. Layers and driver are Debian sid's, unpacked beside the system's.
# Any message fails, but for those that validation-known.txt lists with a reason.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
name=validation core=true assisted=false
if [ "${1:-}" = --gpu-assisted ]; then
    shift
    name=validation-gpu core=false assisted=true
fi
arguments kernels golden -- "$@"
unpacked "${SUITE_OF_DEBIAN:-sid}" validation mesa-vulkan-drivers libvulkan1 vulkan-validationlayers
newer_libraries
driver "$(mesa_file "$root")"

layer=VK_LAYER_KHRONOS_validation
export VK_LAYER_PATH=$root/usr/share/vulkan/explicit_layer.d VK_INSTANCE_LAYERS=$layer
export VK_LAYER_SETTINGS_PATH=$TIPI_CACHE_DIR/vk_layer_settings.txt
cat >"$VK_LAYER_SETTINGS_PATH" <<E
khronos_validation.validate_core = $core
khronos_validation.validate_sync = $core
khronos_validation.gpuav_enable = $assisted
khronos_validation.report_flags = error,warn
khronos_validation.debug_action = VK_DBG_LAYER_ACTION_LOG_MSG
khronos_validation.log_filename = stdout
khronos_validation.enable_message_limit = true
khronos_validation.duplicate_message_limit = 3
E
describe "$name" "validation layers $(sed -nE 's/^vulkan-validationlayers_([^_]*)_.*/\1/p' "$root/complete") on Mesa \
$(sed -nE 's/^mesa-vulkan-drivers_([^_]*)_.*/\1/p' "$root/complete")"
# Without the layers, silence would mean nothing.
said=$(VK_LOADER_DEBUG=layer "${launcher[@]}" "${binary[tipi]}" devices 2>&1)
grep -qF "Insert instance layer \"$layer\"" <<<"$said" || broken "the loader does not take the layers"

# judge: fails the suite where the layers said something new.
judge() {
    local count kind reason new=0
    while read -r count kind; do
        if reason=$(grep -F -- "$kind " "$here/validation-known.txt"); then
            printf 'known: %s, %d times or more: %s\n' "$kind" "$count" "${reason#* }"
        else
            new=$((new + 1))
            printf 'NEW: %s, %d times or more\n' "$kind" "$count"
            grep -aF -A8 "[ $kind ]" "$TIPI_CACHE_DIR/out" | head -9
        fi
    done < <(grep -aoE 'Validation (Error|Warning|Performance Warning): \[ [^]]+ \]' "$TIPI_CACHE_DIR/out" |
        sed -E 's/.*\[ (.*) \]/\1/' | sort | uniq -c)
    # Tests keep their devices to the end of the process, where the layers' own clearing up may abort with GPU-assisted checks.
    if [ $assisted = true ] && [ "$status" -eq 134 ] && grep -aq '^test result: ok' "$TIPI_CACHE_DIR/out"; then
        word=passed note="${note:+$note; }the layers abort at exit, after the last test"
    fi
    [ "$new" -eq 0 ] || word=failed note="${note:+$note; }$new kinds of messages that are not known"
}

for suite in "${suites[@]}"; do run_suite "$suite" "${binary[$suite]}" judge; done
finish

// Calls tipi's functions in random order with random arguments: handles of all kinds, freed ones and numbers that never were one; text,
// pictures, adapters and pixels of random bytes, whole ones and damaged ones. Buffers end where memory ends, so that one byte read too
// many is a fault. Pointers and lengths are true, as the header asks; all else is not. Fails at a defect, a status without a
// message, a handle that is not NULL after a failure, and handles that are left.
//
//   fuzz SECONDS SEED MODEL        in a folder with bell.png, car.png, icons/ and adapter.safetensors, to which it writes

#define _DEFAULT_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <tipi.h>

static uint64_t state;

static uint64_t any(void)
{
    // splitmix64
    uint64_t z = (state += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static size_t below(size_t n) { return (size_t)(any() % n); }
static int once_in(size_t n) { return below(n) == 0; }

// Buffers that end where memory ends.
enum { BUFFERS = 16, ROOM = 1 << 20 };
static unsigned char *rooms[BUFFERS];

static void make_rooms(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (int i = 0; i < BUFFERS; i++) {
        rooms[i] = mmap(NULL, ROOM + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (rooms[i] == MAP_FAILED || mprotect(rooms[i] + ROOM, page, PROT_NONE) != 0) {
            perror("mmap");
            exit(EXIT_FAILURE);
        }
    }
}

static void *room_for(size_t length)
{
    static int next = 0;
    return rooms[next++ % BUFFERS] + ROOM - length;
}

static void *copy_of(const void *bytes, size_t length)
{
    void *room = room_for(length);
    return length == 0 ? room : memcpy(room, bytes, length);
}

// Whole files, to be damaged.
static unsigned char *files[3];
static size_t lengths[3];
static const char *const NAMES[3] = {"bell.png", "car.png", "adapter.safetensors"};

static void read_files(void)
{
    for (int i = 0; i < 3; i++) {
        FILE *file = fopen(NAMES[i], "rb");
        files[i] = malloc(ROOM / 2);
        if (file == NULL || files[i] == NULL || (lengths[i] = fread(files[i], 1, ROOM / 2, file)) == 0) {
            fprintf(stderr, "%s: not read\n", NAMES[i]);
            exit(EXIT_FAILURE);
        }
        fclose(file);
    }
}

static unsigned char *some_bytes(size_t *length)
{
    unsigned char *bytes;
    if (once_in(3)) {
        *length = below(400);
        bytes = room_for(*length);
        for (size_t i = 0; i < *length; i++) {
            bytes[i] = (unsigned char)any();
        }
        return bytes;
    }
    size_t which = below(3);
    *length = once_in(3) ? below(lengths[which]) : lengths[which];
    bytes = copy_of(files[which], *length);
    for (size_t i = once_in(2) ? below(8) : 0; i > 0 && *length > 0; i--) {
        bytes[below(once_in(2) ? (*length < 64 ? *length : 64) : *length)] = (unsigned char)any();
    }
    return bytes;
}

static const char *const WORDS[] = {
    "bell", "car", "", "an icon of {}", "a photo of a {}.", "{}", "bell.png", "car.png", "icons", "model",
    "adapter.safetensors", "out.safetensors", "tip-adapter", "zero-shot", "tip-adapter-f", "tip-x", "gda", "pini", "prolip",
    "tip-adapter++", "auto", "{\"epochs\": 1}", "{\"epochs\": 2, \"lr\": 0.01}", "{\"key_views\": 1, \"views\": 1}",
    "{\"epochs\": 1, \"bottleneck\": 4, \"batch\": 2}", "{\"self_supervision\": {}, \"epochs\": 1, \"batch\": 2}",
    "[[[[[[[[[[", "0", "llvmpipe", "\xf0\x9f\x94\x94", "a\x1b[31mb", "caf\xe9",
};

static TipiStr some_text(void)
{
    TipiStr text;
    if (once_in(6)) {
        text.length = below(40);
        unsigned char *bytes = room_for(text.length);
        for (size_t i = 0; i < text.length; i++) {
            bytes[i] = (unsigned char)(once_in(2) ? any() : 32 + below(95));
        }
        text.data = (char *)bytes;
        return text;
    }
    const char *word = WORDS[below(sizeof WORDS / sizeof *WORDS)];
    text.length = strlen(word);
    char *copy = copy_of(word, text.length);
    if (text.length > 0 && once_in(5)) {
        copy[below(text.length)] = (char)any();
    }
    text.data = copy;
    text.data = once_in(40) ? NULL : text.data;
    return text;
}

// A path below this folder.
static TipiStr some_path(void)
{
    TipiStr text = some_text(), path = {NULL, 0};
    if (text.data == NULL) {
        return text;
    }
    char *bytes = room_for(text.length + 2);
    memcpy(bytes, "./", 2);
    memcpy(bytes + 2, text.data, text.length);
    path.data = bytes;
    path.length = text.length + 2;
    return path;
}

// One of these as it is, or some text.
#define ONE_OF(...) one_of((const char *const[]){__VA_ARGS__}, sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))
static TipiStr one_of(const char *const *texts, size_t count)
{
    return once_in(4) ? some_text() : tipi_str(texts[below(count)]);
}

static TipiStr *some_texts(size_t *count, const char *first, const char *second)
{
    *count = below(3);
    TipiStr all[3];
    for (size_t i = 0; i < *count; i++) {
        all[i] = once_in(3) ? some_text() : tipi_str(i == 0 ? first : second);
    }
    return copy_of(all, *count * sizeof *all);
}

// Handles, by kind.
enum { DEVICES, GPU, MODEL, PICTURES, FEATURES, NEIGHBOURS, GALLERY, CLASSIFIER, PREDICTIONS, EXAMPLES, CORRECTION, REPORT, TEXT, BYTES,
       MESSAGES, STOP, KINDS };
enum { POOL = 6 };
static void *pool[KINDS][POOL];
static void *freed[64];

static void *handle(int kind)
{
    if (once_in(12)) {
        switch (below(5)) {
        case 0: return NULL;
        case 1: return freed[below(64)];
        case 2: return (void *)(uintptr_t)any();
        case 3: return &state;
        default: kind = (int)below(KINDS);
        }
    }
    for (int i = 0; i < 8; i++) {
        void *found = pool[kind][below(POOL)];
        if (found != NULL) {
            return found;
        }
    }
    return NULL;
}

static void let_go(void **place)
{
    if (*place != NULL) {
        freed[below(64)] = *place;
        if (tipi_free(*place) != TIPI_OK) {
            fprintf(stderr, "a handle was not freed: %s\n", tipi_last_error().data);
            exit(EXIT_FAILURE);
        }
        *place = NULL;
    }
}

static void keep(int kind, void *made)
{
    if (made != NULL) {
        // The first device and the first model stay.
        void **place = &pool[kind][1 + below(POOL - 1)];
        let_go(place);
        *place = made;
    }
}

static time_t began;

static int32_t on_progress(void *data, const TipiProgress *progress)
{
    // Trainings are many and must not take long.
    return data != NULL || progress == NULL || time(NULL) > began + 2 || once_in(200);
}

static void on_note(void *data, TipiStr note)
{
    if (data != NULL || note.data[note.length] != 0) {
        abort();
    }
}

static TipiWatch *some_watch(void)
{
    TipiWatch watch = {0};
    watch.size = once_in(30) ? (size_t)any() : sizeof watch;
    watch.progress = on_progress;
    watch.note = once_in(2) ? on_note : NULL;
    watch.stop = once_in(10) ? handle(STOP) : NULL;
    began = time(NULL);
    return copy_of(&watch, sizeof watch);
}

static int small(void) { return once_in(10) ? (int)any() : (int)below(5) - 1; }
static size_t number(void) { return once_in(10) ? (size_t)any() : below(6); }

static double share(void)
{
    uint64_t bits = any();
    double value;
    memcpy(&value, &bits, sizeof value);
    return once_in(3) ? value : (double)below(101) / 100.0;
}

// Makes something of a kind.
#define MAKES(kind, type, call)                                                                                        \
    do {                                                                                                               \
        type *made = (type *)(void *)&state;                                                                           \
        type **at = once_in(50) ? NULL : &made;                                                                        \
        status = (call);                                                                                               \
        if (at != NULL && (status == TIPI_OK) != (made != NULL)) {                                                     \
            fprintf(stderr, "status %d and handle %p\n", (int)status, (void *)made);                                  \
            exit(EXIT_FAILURE);                                                                                        \
        }                                                                                                              \
        if (status == TIPI_OK) {                                                                                       \
            keep(kind, made);                                                                                          \
        }                                                                                                              \
    } while (0)

// Reads something into a structure.
#define READS(type, call)                                                                                              \
    do {                                                                                                               \
        type *at = once_in(30) ? NULL : room_for(sizeof(type));                                                       \
        status = (call);                                                                                               \
    } while (0)

enum { CALLS = 66 };

static TipiStatus one(size_t call, TipiStr model)
{
    TipiStatus status = TIPI_OK;
    size_t a = 0, b = 0;
    unsigned char *bytes;
    switch (call) {
    case 0: if (once_in(40)) { MAKES(DEVICES, TipiDevices, tipi_devices_list(at)); } break;
    case 1: READS(size_t, tipi_devices_count(handle(DEVICES), at)); break;
    case 2: READS(TipiDevice, tipi_devices_get(handle(DEVICES), number(), at)); break;
    case 3:
        if (once_in(60)) {
            TipiDeviceOptions options = {0};
            options.size = once_in(4) ? (size_t)any() : sizeof options;
            options.device = once_in(2) ? some_text() : options.device;
            options.cache = once_in(4) ? some_path() : options.cache;
            options.memory = once_in(4) ? any() : 0;
            options.tune = -1;
            options.checked = small();
            MAKES(GPU, TipiGpu, tipi_gpu_open(once_in(5) ? (uint32_t)any() : TIPI_ABI_VERSION, copy_of(&options, sizeof options), at));
        }
        break;
    case 4: READS(TipiGpuInfo, tipi_gpu_info(handle(GPU), at)); break;
    case 5: status = once_in(20) ? tipi_gpu_release(handle(GPU)) : tipi_gpu_check(handle(GPU)); break;
    case 6:
        if (once_in(30)) {
            TipiModelOptions options = {0};
            options.size = once_in(4) ? (size_t)any() : sizeof options;
            options.precision = small();
            options.depth = small();
            options.lora = once_in(4) ? some_path() : options.lora;
            MAKES(MODEL, TipiModel, tipi_model_load(handle(GPU), once_in(2) ? some_path() : model, copy_of(&options, sizeof options), some_watch(), at));
        }
        break;
    case 7: READS(TipiModelInfo, tipi_model_info(handle(MODEL), at)); break;
    case 8: READS(TipiStr, tipi_model_digest(handle(MODEL), at)); break;
    case 9: status = once_in(10) ? tipi_model_release(handle(MODEL)) : TIPI_OK; break;
    case 10: MAKES(PICTURES, TipiPictures, tipi_pictures_new(at)); break;
    case 11: status = tipi_pictures_add_file(handle(PICTURES), once_in(2) ? ONE_OF("bell.png", "car.png") : some_path()); break;
    case 12: status = tipi_pictures_add_folder(handle(PICTURES), some_path(), once_in(2) ? NULL : &a); break;
    case 13: case 14: bytes = some_bytes(&a); status = tipi_pictures_add_encoded(handle(PICTURES), some_text(), bytes, a); break;
    case 15: case 16: {
        size_t width = number(), height = number(), stride = once_in(4) ? number() : width * (call == 15 ? 3 : 4) + below(3);
        bytes = some_bytes(&a);
        a = once_in(2) && width < 9 && height < 9 && stride < 99 && a >= stride * height ? stride * height : a;
        status = (call == 15 ? tipi_pictures_add_rgb : tipi_pictures_add_rgba)(handle(PICTURES), some_text(), width, height, stride, bytes, a);
        break;
    }
    case 17: READS(size_t, tipi_pictures_count(handle(PICTURES), at)); break;
    case 18: status = tipi_pictures_clear(handle(PICTURES)); break;
    case 19: MAKES(TEXT, TipiText, tipi_pictures_name(handle(PICTURES), number(), at)); break;
    case 20: status = tipi_pictures_check(handle(PICTURES), number(), once_in(20) ? NULL : &a, &b); break;
    case 21: case 22: MAKES(FEATURES, TipiFeatures, tipi_model_encode(handle(MODEL), handle(PICTURES), some_watch(), at)); break;
    case 23: { TipiStr *texts = some_texts(&a, "bell", "car"); MAKES(FEATURES, TipiFeatures, tipi_model_encode_texts(handle(MODEL), texts, a, at)); break; }
    case 24: case 25: {
        size_t rows = below(4), width = once_in(3) ? below(9) : 512;
        float *values = room_for(rows * width * sizeof *values);
        for (size_t i = 0; i < rows * width; i++) {
            uint32_t bits = (uint32_t)any();
            values[i] = (float)(bits % 2001) / 1000.0f - 1.0f;
            if (once_in(5000)) {
                memcpy(&values[i], &bits, sizeof bits);
            }
        }
        MAKES(FEATURES, TipiFeatures, tipi_features_new(small(), values, rows, width, at));
        break;
    }
    case 26: READS(TipiMatrix, tipi_features_get(handle(FEATURES), at)); break;
    case 27: {
        TipiFeatures *pictures = handle(FEATURES), *texts = handle(FEATURES);
        TipiMatrix left, right;
        a = below(20);
        if (!once_in(4) && tipi_features_get(pictures, &left) == TIPI_OK && tipi_features_get(texts, &right) == TIPI_OK) {
            a = left.rows * right.rows;
        }
        status = tipi_features_cosines(pictures, texts, room_for(a * sizeof(float)), a);
        break;
    }
    case 28: MAKES(NEIGHBOURS, TipiNeighbours, tipi_features_nearest(handle(FEATURES), handle(FEATURES), number(), at)); break;
    case 29: READS(size_t, tipi_neighbours_count(handle(NEIGHBOURS), at)); break;
    case 30: READS(const TipiNeighbour *, tipi_neighbours_get(handle(NEIGHBOURS), number(), at, &a)); break;
    case 31: MAKES(GALLERY, TipiGallery, tipi_gallery_new(handle(GPU), handle(FEATURES), at)); break;
    case 32: READS(size_t, tipi_gallery_size(handle(GALLERY), at, &a)); break;
    case 33: MAKES(NEIGHBOURS, TipiNeighbours, tipi_gallery_nearest(handle(GALLERY), handle(FEATURES), number(), some_watch(), at)); break;
    case 34: MAKES(NEIGHBOURS, TipiNeighbours, tipi_gallery_nearest_others(handle(GALLERY), number(), some_watch(), at)); break;
    case 35: MAKES(NEIGHBOURS, TipiNeighbours, tipi_gallery_duplicates(handle(GALLERY), share(), some_watch(), at)); break;
    case 36: {
        TipiStr *classes = some_texts(&a, "bell", "car"), *templates = some_texts(&b, "an icon of {}", "a {}");
        MAKES(CLASSIFIER, TipiClassifier, tipi_model_zero_shot(handle(MODEL), classes, a, templates, b, at));
        break;
    }
    case 37: {
        TipiStr *classes = some_texts(&a, "bell", "car"), *prompts = some_texts(&b, "a bell", "a car");
        size_t counts[3], left = b;
        for (size_t i = 0; i < a; i++) {
            counts[i] = once_in(10) ? (size_t)any() : i + 1 == a ? left : left > 0 ? 1 : 0;
            left -= counts[i] <= left ? counts[i] : 0;
        }
        MAKES(CLASSIFIER, TipiClassifier, tipi_model_zero_shot_of(handle(MODEL), classes, copy_of(counts, a * sizeof *counts), a, prompts, b, at));
        break;
    }
    case 38: READS(TipiMethod, tipi_method_get(once_in(4) ? (size_t)any() : below(tipi_method_count()), at)); break;
    case 39: MAKES(TEXT, TipiText, tipi_method_settings(some_text(), at)); break;
    case 40: MAKES(EXAMPLES, TipiExamples, tipi_examples_new(at)); break;
    case 41: MAKES(EXAMPLES, TipiExamples, tipi_examples_of_folder(once_in(2) ? tipi_str("icons") : some_path(), at)); break;
    case 42: case 43: status = tipi_examples_add(handle(EXAMPLES), ONE_OF("bell", "car"), handle(PICTURES)); break;
    case 44: status = tipi_examples_add_validation(handle(EXAMPLES), ONE_OF("bell", "car"), handle(PICTURES)); break;
    case 45: status = once_in(4) ? tipi_examples_clear(handle(EXAMPLES)) : TIPI_OK; break;
    case 46: READS(TipiExamplesInfo, tipi_examples_info(handle(EXAMPLES), at)); break;
    case 47: MAKES(TEXT, TipiText, tipi_examples_class(handle(EXAMPLES), number(), at)); break;
    case 48: case 49: {
        TipiMessages *left_out = NULL;
        TipiMessages **place = once_in(3) ? NULL : &left_out;
        if (call == 48) {
            MAKES(EXAMPLES, TipiExamples, tipi_examples_choose(handle(EXAMPLES), number(), any(), some_watch(), at, place));
        } else {
            MAKES(EXAMPLES, TipiExamples, tipi_examples_sound(handle(EXAMPLES), some_watch(), at, place));
        }
        keep(MESSAGES, left_out);
        break;
    }
    case 50: {
        TipiFitOptions options = {0};
        TipiReport *report = NULL;
        TipiReport **place = once_in(2) ? NULL : &report;
        options.size = once_in(20) ? (size_t)any() : sizeof options;
        options.method = ONE_OF("tip-adapter", "zero-shot", "tip-adapter-f", "tip-x", "gda", "pini", "prolip", "tip-adapter++", "auto");
        options.settings = ONE_OF("", "", "{\"epochs\": 1}");
        options.how = ONE_OF("{\"key_views\": 1, \"views\": 1, \"grid\": \"standard\"}");
        options.templates = once_in(3) ? some_texts(&options.template_count, "an icon of {}", "a {}") : NULL;
        options.words = once_in(4) ? some_text() : tipi_str("");
        options.correction = once_in(3) ? handle(CORRECTION) : NULL;
        options.seed = any();
        options.has_seed = small();
        options.checkpoint = once_in(10) ? some_path() : tipi_str("");
        MAKES(CLASSIFIER, TipiClassifier, tipi_model_fit(handle(MODEL), handle(EXAMPLES), copy_of(&options, sizeof options), some_watch(), at, place));
        keep(REPORT, report);
        break;
    }
    case 51: READS(TipiReportInfo, tipi_report_get(handle(REPORT), at)); break;
    case 52: if (once_in(6)) { MAKES(CORRECTION, TipiCorrection, tipi_model_fit_correction(handle(MODEL), handle(EXAMPLES), ONE_OF("{\"epochs\": 1, \"bottleneck\": 4, \"batch\": 2}"), some_watch(), at, NULL)); } break;
    case 53: if (once_in(2)) { READS(TipiCorrectionInfo, tipi_correction_info(handle(CORRECTION), at)); } else { READS(TipiStr, tipi_correction_class(handle(CORRECTION), number(), at)); } break;
    case 54: MAKES(BYTES, TipiBytes, tipi_correction_to_bytes(handle(CORRECTION), at)); break;
    case 55: status = once_in(4) ? tipi_correction_save(handle(CORRECTION), some_path()) : tipi_classifier_save(handle(CLASSIFIER), some_path()); break;
    case 56: if (once_in(2)) { MAKES(CLASSIFIER, TipiClassifier, tipi_model_open_adapter(handle(MODEL), some_path(), at)); } else { MAKES(CORRECTION, TipiCorrection, tipi_model_open_correction(handle(MODEL), some_path(), at)); } break;
    case 57: bytes = some_bytes(&a);
        if (once_in(4)) { MAKES(CORRECTION, TipiCorrection, tipi_model_correction_from_bytes(handle(MODEL), some_text(), bytes, a, at)); }
        else { MAKES(CLASSIFIER, TipiClassifier, tipi_model_adapter_from_bytes(handle(MODEL), some_text(), bytes, a, at)); }
        break;
    case 58: if (once_in(2)) { READS(TipiClassifierInfo, tipi_classifier_info(handle(CLASSIFIER), at)); } else { READS(TipiStr, tipi_classifier_class(handle(CLASSIFIER), number(), at)); } break;
    case 59: switch (below(4)) {
        case 0: MAKES(CLASSIFIER, TipiClassifier, tipi_classifier_asking_for(handle(CLASSIFIER), share(), at)); break;
        case 1: MAKES(CLASSIFIER, TipiClassifier, tipi_classifier_keeping(handle(CLASSIFIER), share(), small(), at)); break;
        case 2: MAKES(CLASSIFIER, TipiClassifier, tipi_classifier_covering(handle(CLASSIFIER), share(), small(), at)); break;
        default: MAKES(CLASSIFIER, TipiClassifier, tipi_classifier_in_batches_of(handle(CLASSIFIER), number(), at));
        }
        break;
    case 60: MAKES(PREDICTIONS, TipiPredictions, tipi_classifier_predict(handle(CLASSIFIER), handle(PICTURES), some_watch(), at)); break;
    case 61: MAKES(PREDICTIONS, TipiPredictions, tipi_classifier_predict_features(handle(CLASSIFIER), handle(FEATURES), at)); break;
    case 62: if (once_in(5)) { MAKES(BYTES, TipiBytes, tipi_classifier_to_bytes(handle(CLASSIFIER), at)); } else { READS(const uint8_t *, tipi_bytes_get(handle(BYTES), at, &a)); } break;
    case 63: if (once_in(2)) { READS(size_t, tipi_predictions_count(handle(PREDICTIONS), at)); } else { READS(TipiPrediction, tipi_predictions_get(handle(PREDICTIONS), number(), at)); } break;
    case 64: a = below(6); status = (once_in(2) ? tipi_predictions_top : tipi_predictions_set)(handle(PREDICTIONS), number(), a, room_for(a * sizeof(TipiScored)), &b); break;
    default: switch (below(6)) {
        case 0: MAKES(STOP, TipiStop, tipi_stop_new(at)); break;
        case 1: status = once_in(3) ? tipi_stop_now(handle(STOP)) : TIPI_OK; break;
        case 2: READS(TipiStr, tipi_text_get(handle(TEXT), at)); break;
        case 3: READS(size_t, tipi_messages_count(handle(MESSAGES), at)); break;
        case 4: READS(TipiStr, tipi_messages_get(handle(MESSAGES), number(), NULL, at)); break;
        // Anything else may be freed at any time.
        default: let_go(&pool[below(KINDS)][1 + below(POOL - 1)]);
        }
    }
    return status;
}

int main(int count, char **arguments)
{
    if (count != 4) {
        fprintf(stderr, "usage: fuzz SECONDS SEED MODEL\n");
        return EXIT_FAILURE;
    }
    time_t end = time(NULL) + atoi(arguments[1]);
    state = strtoull(arguments[2], NULL, 10);
    make_rooms();
    read_files();
    TipiStr model = tipi_str(arguments[3]);
    unsigned long done[CALLS] = {0}, refused[CALLS] = {0}, total = 0;
    TipiDeviceOptions options = {0};
    options.size = sizeof options;
    options.tune = -1;
    TipiGpu *gpu;
    TipiModel *loaded;
    if (tipi_gpu_open(TIPI_ABI_VERSION, &options, &gpu) != TIPI_OK || tipi_model_load(gpu, model, NULL, NULL, &loaded) != TIPI_OK) {
        fprintf(stderr, "%s\n", tipi_last_error().data);
        return EXIT_FAILURE;
    }
    pool[GPU][0] = gpu;
    pool[MODEL][0] = loaded;
    while (time(NULL) < end) {
        size_t call = below(CALLS);
        uint64_t before = state;
        TipiStatus status = one(call, model);
        total++;
        if (status == TIPI_OK) {
            done[call]++;
            continue;
        }
        refused[call]++;
        if (status == TIPI_DEFECT || strcmp(tipi_status_name(status).data, "unknown status") == 0 || tipi_last_error().length == 0) {
            fprintf(stderr, "call %zu at state %llu, after %lu calls: status %d: %s\n", call, (unsigned long long)before, total,
                    (int)status, tipi_last_error().data);
            return EXIT_FAILURE;
        }
    }
    for (int kind = 0; kind < KINDS; kind++) {
        for (int i = 0; i < POOL; i++) {
            let_go(&pool[kind][i]);
        }
    }
    unsigned long well = 0, seldom = 0;
    for (size_t call = 0; call < CALLS; call++) {
        well += done[call];
        seldom += done[call] == 0;
        printf("  call %zu: %lu did well, %lu were refused\n", call, done[call], refused[call]);
    }
    printf("%lu calls, of which %lu did well; %lu of %d kinds never did\n", total, well, seldom, CALLS);
    if (tipi_live_handles() != 0) {
        fprintf(stderr, "%zu handles are left\n", tipi_live_handles());
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}

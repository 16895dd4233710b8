// What programs do wrong, under the eyes of a sanitizer: every call says what is wrong, and nothing is touched that should not be.
//
//   misuse MODEL PICTURE

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tipi.h>

static void check(TipiStatus status)
{
    if (status != TIPI_OK) {
        fprintf(stderr, "%s\n", tipi_last_error().data);
        exit(EXIT_FAILURE);
    }
}

// The call must fail with this status, and its message must hold these words.
#define FAILS(call, wanted, words)                                                                                     \
    do {                                                                                                               \
        TipiStatus got = (call);                                                                                       \
        if (got != (wanted) || strstr(tipi_last_error().data, (words)) == NULL) {                                      \
            fprintf(stderr, "line %d: %s is %d, and says: %s\n", __LINE__, #call, (int)got, tipi_last_error().data);  \
            exit(EXIT_FAILURE);                                                                                        \
        }                                                                                                              \
        refused++;                                                                                                     \
    } while (0)

int main(int count, char **arguments)
{
    int refused = 0;
    if (count != 3) {
        fprintf(stderr, "usage: misuse MODEL PICTURE\n");
        return EXIT_FAILURE;
    }
    TipiGpu *gpu;
    TipiModel *model;
    TipiPictures *pictures;
    TipiFeatures *features;
    TipiClassifier *classifier;
    size_t number = 0;

    FAILS(tipi_gpu_open(TIPI_ABI_VERSION + 1, NULL, &gpu), TIPI_ABI, "header");
    FAILS(tipi_gpu_open(TIPI_ABI_VERSION, NULL, NULL), TIPI_INVALID, "gpu is NULL");
    check(tipi_gpu_open(TIPI_ABI_VERSION, NULL, &gpu));
    FAILS(tipi_model_load(gpu, tipi_str("/no/such/model"), NULL, NULL, &model), TIPI_CONFIG, "/no/such/model");
    FAILS(tipi_model_load(NULL, tipi_str(arguments[1]), NULL, NULL, &model), TIPI_INVALID, "gpu is NULL");
    check(tipi_model_load(gpu, tipi_str(arguments[1]), NULL, NULL, &model));
    check(tipi_pictures_new(&pictures));

    // A truncated PNG, on the heap and exactly as long as is said, so that one byte too many is seen.
    static unsigned char whole[1 << 20];
    FILE *file = fopen(arguments[2], "rb");
    size_t length = file == NULL ? 0 : fread(whole, 1, sizeof whole, file);
    if (length == 0 || fclose(file) != 0) {
        fprintf(stderr, "%s: not read\n", arguments[2]);
        return EXIT_FAILURE;
    }
    unsigned char *cut = malloc(length / 2);
    if (cut == NULL) {
        return EXIT_FAILURE;
    }
    memcpy(cut, whole, length / 2);
    check(tipi_pictures_add_encoded(pictures, tipi_str("cut.png"), cut, length / 2));
    free(cut);
    FAILS(tipi_model_encode(model, pictures, NULL, &features), TIPI_IMAGE, "cut.png");
    check(tipi_pictures_clear(pictures));

    // Buffers of pixels.
    unsigned char *pixels = calloc(1, 4 * 9 + 4 * 8);
    if (pixels == NULL) {
        return EXIT_FAILURE;
    }
    FAILS(tipi_pictures_add_rgba(pictures, tipi_str("frame"), 8, 2, 36, pixels, 67), TIPI_INVALID, "67 bytes");
    FAILS(tipi_pictures_add_rgba(pictures, tipi_str("frame"), 8, 2, 31, pixels, 68), TIPI_INVALID, "stride of 31");
    FAILS(tipi_pictures_add_rgba(pictures, tipi_str("frame"), 8, 2, 36, NULL, 68), TIPI_INVALID, "bytes is NULL");
    FAILS(tipi_pictures_add_rgba(pictures, tipi_str("frame"), (size_t)-1, (size_t)-1, (size_t)-1, pixels, 68), TIPI_INVALID,
          "each side");
    check(tipi_pictures_add_rgba(pictures, tipi_str("frame"), 8, 2, 36, pixels, 68));
    free(pixels);
    check(tipi_model_encode(model, pictures, NULL, &features));

    // Text without NUL, of wrong lengths, and no UTF-8.
    TipiStr text = {NULL, 3};
    FAILS(tipi_pictures_add_file(pictures, text), TIPI_INVALID, "path is NULL");
    text.data = "a\xff";
    text.length = 2;
    FAILS(tipi_pictures_add_file(pictures, text), TIPI_INVALID, "byte 1");
    text.length = (size_t)-1;
    FAILS(tipi_pictures_add_file(pictures, text), TIPI_INVALID, "no memory");
    TipiStr classes[2] = {tipi_str("bell"), {NULL, 9}};
    TipiStr template = tipi_str("an icon of {}");
    FAILS(tipi_model_zero_shot(model, classes, 2, &template, 1, &classifier), TIPI_INVALID, "classes[1] is NULL");
    classes[1] = tipi_str("car");
    FAILS(tipi_model_zero_shot(model, classes, 2, NULL, 1, &classifier), TIPI_INVALID, "templates is NULL");
    if (classifier != NULL) {
        fprintf(stderr, "a handle that was not made is not NULL\n");
        return EXIT_FAILURE;
    }
    check(tipi_model_zero_shot(model, classes, 2, &template, 1, &classifier));

    // Results in wrong places, and places that are too small.
    float cosines[2];
    FAILS(tipi_features_cosines(features, features, cosines, 2), TIPI_INVALID, "texts");
    FAILS(tipi_pictures_count(pictures, NULL), TIPI_INVALID, "count is NULL");
    FAILS(tipi_pictures_count(pictures, (size_t *)(void *)((char *)&number + 1)), TIPI_INVALID, "multiple of 8");

    // Options of another size than the library's.
    TipiFitOptions options = {0};
    TipiExamples *examples;
    check(tipi_examples_new(&examples));
    TipiClassifier *fitted;
    FAILS(tipi_model_fit(model, examples, &options, NULL, &fitted, NULL), TIPI_INVALID, "fit_options.size is 0");
    options.size = sizeof options;
    options.method = tipi_str("no-such-method");
    FAILS(tipi_model_fit(model, examples, &options, NULL, &fitted, NULL), TIPI_INVALID, "no-such-method");
    options.method = tipi_str("tip-adapter");
    options.settings = tipi_str("{\"epochs\": ");
    FAILS(tipi_model_fit(model, examples, &options, NULL, &fitted, NULL), TIPI_INVALID, "JSON");

    // Handles that were freed, are of another kind, or are none.
    check(tipi_free(features));
    TipiMatrix matrix;
    FAILS(tipi_features_get(features, &matrix), TIPI_INVALID, "freed");
    FAILS(tipi_free(features), TIPI_INVALID, "freed before");
    FAILS(tipi_pictures_count((TipiPictures *)(void *)model, &number), TIPI_INVALID, "pictures is a TipiModel");
    FAILS(tipi_pictures_count((TipiPictures *)(void *)&number, &number), TIPI_INVALID, "no handle");
    FAILS(tipi_pictures_count((TipiPictures *)(void *)0x10, &number), TIPI_INVALID, "no handle");
    // What others need stays.
    TipiPredictions *predictions;
    check(tipi_free(model));
    check(tipi_free(gpu));
    check(tipi_classifier_predict(classifier, pictures, NULL, &predictions));
    FAILS(tipi_model_encode(model, pictures, NULL, &features), TIPI_INVALID, "model is no handle, or was freed");

    check(tipi_free(predictions));
    check(tipi_free(classifier));
    check(tipi_free(examples));
    check(tipi_free(pictures));
    check(tipi_free(NULL));
    printf("%d wrong calls were refused by name\n", refused);
    return tipi_live_handles() == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

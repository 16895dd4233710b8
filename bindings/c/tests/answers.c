// Writes what test.sh compares with the program's answers.
//
//   answers MODEL ADAPTER FEATURES PICTURE...
//
// FEATURES gets the pictures' features as bytes, f32 as they lie in memory. stdout gets a line for each of an adapter's answers: the
// number of the picture, and for each of the three likeliest classes its name, probability and logit, as hexadecimal floats.

#include <stdio.h>
#include <stdlib.h>

#include <tipi.h>

static void check(TipiStatus status)
{
    if (status != TIPI_OK) {
        fprintf(stderr, "%s\n", tipi_last_error().data);
        exit(EXIT_FAILURE);
    }
}

int main(int count, char **arguments)
{
    if (count < 5) {
        fprintf(stderr, "usage: answers MODEL ADAPTER FEATURES PICTURE...\n");
        return EXIT_FAILURE;
    }
    TipiGpu *gpu;
    TipiModel *model;
    TipiPictures *pictures;
    TipiFeatures *features;
    TipiClassifier *classifier;
    TipiPredictions *predictions;
    TipiMatrix matrix;
    size_t answers;
    check(tipi_gpu_open(TIPI_ABI_VERSION, NULL, &gpu));
    check(tipi_model_load(gpu, tipi_str(arguments[1]), NULL, NULL, &model));
    check(tipi_pictures_new(&pictures));
    for (int i = 4; i < count; i++) {
        check(tipi_pictures_add_file(pictures, tipi_str(arguments[i])));
    }
    check(tipi_model_encode(model, pictures, NULL, &features));
    check(tipi_features_get(features, &matrix));
    FILE *file = fopen(arguments[3], "wb");
    if (file == NULL || fwrite(matrix.values, sizeof(float) * matrix.width, matrix.rows, file) != matrix.rows ||
        fclose(file) != 0) {
        fprintf(stderr, "%s: not written\n", arguments[3]);
        return EXIT_FAILURE;
    }
    check(tipi_model_open_adapter(model, tipi_str(arguments[2]), &classifier));
    check(tipi_classifier_predict(classifier, pictures, NULL, &predictions));
    check(tipi_predictions_count(predictions, &answers));
    for (size_t i = 0; i < answers; i++) {
        TipiScored top[3];
        size_t written;
        check(tipi_predictions_top(predictions, i, 3, top, &written));
        printf("%zu", i);
        for (size_t j = 0; j < written; j++) {
            printf(" %s %a %a", top[j].name.data, top[j].probability, (double)top[j].score);
        }
        printf("\n");
    }
    check(tipi_free(predictions));
    check(tipi_free(classifier));
    check(tipi_free(features));
    check(tipi_free(pictures));
    check(tipi_free(model));
    check(tipi_free(gpu));
    return tipi_live_handles() == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

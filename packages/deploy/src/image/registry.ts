/** The account's ECR registry: repositories of images, and the login that Docker needs. */
import {
  BatchDeleteImageCommand,
  CreateRepositoryCommand,
  DeleteRepositoryCommand,
  DescribeImagesCommand,
  DescribeRepositoriesCommand,
  type ECRClient,
  GetAuthorizationTokenCommand,
  type ImageIdentifier,
  ListImagesCommand,
  PutLifecyclePolicyCommand,
  RepositoryNotFoundException,
} from "@aws-sdk/client-ecr";
import { DeployError } from "../command.ts";

export const DEFAULT_REPOSITORY = "dask-ts";
/** BatchDeleteImage takes this many. */
const IMAGES_PER_CALL = 100;

export interface Login {
  readonly user: string;
  readonly password: string;
  /** Host of the registry, without a scheme. */
  readonly registry: string;
}

/** Credentials for twelve hours (what `aws ecr get-login-password` prints). */
export async function getLogin(ecr: ECRClient): Promise<Login> {
  const [data] = (await ecr.send(new GetAuthorizationTokenCommand({}))).authorizationData ?? [];
  const [user, ...password] = Buffer.from(data?.authorizationToken ?? "", "base64")
    .toString()
    .split(":");
  if (user === undefined || password.length === 0 || data?.proxyEndpoint === undefined) {
    throw new DeployError("ECR gave no credentials");
  }
  return { user, password: password.join(":"), registry: data.proxyEndpoint.replace(/^https?:\/\//, "") };
}

/** The URI of a repository, or undefined where there is none. */
export async function findRepository(ecr: ECRClient, name: string): Promise<string | undefined> {
  try {
    const [found] = (await ecr.send(new DescribeRepositoriesCommand({ repositoryNames: [name] }))).repositories ?? [];
    return found?.repositoryUri;
  } catch (error) {
    if (error instanceof RepositoryNotFoundException) return undefined;
    throw error;
  }
}

/** The URI of the repository, made where there is none: untagged images go after a week. */
export async function ensureRepository(ecr: ECRClient, name: string): Promise<string> {
  const found = await findRepository(ecr, name);
  if (found !== undefined) return found;
  const { repository } = await ecr.send(
    new CreateRepositoryCommand({ repositoryName: name, imageScanningConfiguration: { scanOnPush: true } }),
  );
  const policy = {
    rules: [
      {
        rulePriority: 1,
        description: "Images that lost their tag",
        selection: { tagStatus: "untagged", countType: "sinceImagePushed", countUnit: "days", countNumber: 7 },
        action: { type: "expire" },
      },
    ],
  };
  await ecr.send(new PutLifecyclePolicyCommand({ repositoryName: name, lifecyclePolicyText: JSON.stringify(policy) }));
  if (repository?.repositoryUri === undefined) throw new DeployError(`ECR made no repository '${name}'`);
  return repository.repositoryUri;
}

/** The tags of a repository's images, the newest image's first. */
async function tagsOf(ecr: ECRClient, name: string): Promise<string[]> {
  const images = [];
  let nextToken: string | undefined;
  do {
    const page = await ecr.send(new DescribeImagesCommand({ repositoryName: name, nextToken }));
    images.push(...(page.imageDetails ?? []));
    nextToken = page.nextToken;
  } while (nextToken !== undefined);
  images.sort((a, b) => (b.imagePushedAt?.getTime() ?? 0) - (a.imagePushedAt?.getTime() ?? 0));
  return images.flatMap(({ imageTags }) => imageTags ?? []);
}

/** Deletes all images. @returns how many there were. */
export async function emptyRepository(ecr: ECRClient, name: string): Promise<number> {
  const images: ImageIdentifier[] = [];
  let nextToken: string | undefined;
  do {
    const page = await ecr.send(new ListImagesCommand({ repositoryName: name, nextToken }));
    images.push(...(page.imageIds ?? []));
    nextToken = page.nextToken;
  } while (nextToken !== undefined);
  for (let at = 0; at < images.length; at += IMAGES_PER_CALL) {
    const imageIds = images.slice(at, at + IMAGES_PER_CALL);
    await ecr.send(new BatchDeleteImageCommand({ repositoryName: name, imageIds }));
  }
  return images.length;
}

export async function deleteRepository(ecr: ECRClient, name: string): Promise<void> {
  await ecr.send(new DeleteRepositoryCommand({ repositoryName: name, force: true }));
}

/**
 * The image that `deploy image push` pushed: the repository's tag `version`, else `latest`, with a variant's suffix.
 *
 * @returns undefined where there is none.
 */
export async function pushedImage(ecr: ECRClient, version: string, variant = ""): Promise<string | undefined> {
  const uri = await findRepository(ecr, DEFAULT_REPOSITORY);
  if (uri === undefined) return undefined;
  const tags = new Set(await tagsOf(ecr, DEFAULT_REPOSITORY));
  const tag = [`${version}${variant}`, `latest${variant}`].find((one) => tags.has(one));
  return tag === undefined ? undefined : `${uri}:${tag}`;
}

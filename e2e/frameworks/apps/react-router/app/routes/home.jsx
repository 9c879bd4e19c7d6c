export const loader = () => ({ pid: process.pid })

export default function Home({ loaderData }) {
  return <p>{`worker=${loaderData.pid}`}</p>
}
